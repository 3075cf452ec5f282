// Which models may be chosen. Knows nothing of how they are shown.

import { getJson } from "./api.js";

/** Models that answer prompts, the default one first: `{name, default}`. */
export async function chatModels() {
  try {
    const { models } = await getJson("/models");
    const answering = models.filter((model) => (model.kind ?? "generation") === "generation");
    return answering.sort((one, other) => Number(other.default) - Number(one.default));
  } catch (error) {
    if (error.status !== 403) throw error;
    const { data } = await getJson("/v1/models");
    return data.map((card, place) => ({ name: card.id, default: place === 0 }));
  }
}
