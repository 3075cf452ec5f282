// Live: what the server does now, read from its metrics each second.

import { getText } from "./api.js";
import { failure, h, put } from "./dom.js";
import { count, ms, plural, speed } from "./format.js";
import { plot } from "./plot.js";
import { greatest, parse, total } from "./prometheus.js";

const SECOND = 1000;
const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

export async function show(main, _, signal) {
  const plots = {
    tokens: plot("Tokens a second", speed, { least: 10, note: "all answers together" }),
    first: plot("Time to first token", ms, { least: 20, note: "mean of the last second's requests" }),
    running: plot("Running", (value) => plural(value, "answer"), { least: 4 }),
    waiting: plot("Queue", (value) => plural(value, "request"), { least: 4 }),
    cache: plot("KV cache in use", percent, { least: 0.05 }),
    commits: plot("Vault commit", ms, { least: 2, note: "mean of the last second" }),
  };
  const totals = h("div.card.facts-card");
  const problem = h("div");
  put(main,
    h("div", h("h1", "Live"), h("p.lead", "The last minute, a point a second.")),
    problem, totals, h("div.plots", Object.values(plots).map((one) => one.element)));
  watch(plots, totals, problem, signal);
}

async function watch(plots, totals, problem, signal) {
  let before = null;
  while (!signal.aborted) {
    const begun = performance.now();
    try {
      const now = sampled(parse(await getText("/metrics", { signal })), begun);
      if (before) push(plots, before, now);
      totals.replaceChildren(...totalsOf(now));
      problem.replaceChildren();
      before = now;
    } catch (error) {
      if (error.name === "AbortError") return;
      problem.replaceChildren(failure(error));
      if (error.status === 401 || error.status === 403) return;
    }
    await pause(Math.max(50, SECOND - (performance.now() - begun)), signal);
  }
}

function pause(time, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

function sampled(metrics, at) {
  const sum = (name) => total(metrics, name);
  return {
    at,
    steps: sum("vllm:inter_token_latency_seconds_count") + sum("vllm:time_to_first_token_seconds_count"),
    generated: sum("vllm:generation_tokens_total"),
    prompted: sum("vllm:prompt_tokens_total"),
    firstSum: sum("vllm:time_to_first_token_seconds_sum"),
    firstCount: sum("vllm:time_to_first_token_seconds_count"),
    running: sum("vllm:num_requests_running"),
    waiting: sum("vllm:num_requests_waiting"),
    cache: greatest(metrics, "vllm:kv_cache_usage_perc"),
    commitSum: sum("minivault_ledger_commit_seconds_sum"),
    commitCount: sum("minivault_ledger_commit_seconds_count"),
    answered: sum("vllm:request_success_total"),
    hits: sum("vllm:prefix_cache_hits_total"),
    sought: sum("vllm:prefix_cache_queries_total"),
    records: sum("minivault_records"),
  };
}

function push(plots, before, now) {
  const seconds = (now.at - before.at) / SECOND;
  // Steps are counted as they are made and tokens when an answer has ended; a step may give more than one token.
  const each = now.steps > 0 ? Math.max(1, now.generated / now.steps) : 1;
  const mean = (sum, number) => (now[number] > before[number] ? ((now[sum] - before[sum]) / (now[number] - before[number])) * SECOND : null);
  plots.tokens.push((Math.max(0, now.steps - before.steps) * each) / seconds);
  plots.first.push(mean("firstSum", "firstCount"));
  plots.running.push(now.running);
  plots.waiting.push(now.waiting);
  plots.cache.push(now.cache);
  plots.commits.push(mean("commitSum", "commitCount"));
}

function totalsOf(now) {
  const facts = [
    [count(now.answered), "answers since the start"],
    [count(now.generated), "tokens generated"],
    [count(now.prompted), "tokens read"],
    [now.sought ? percent(now.hits / now.sought) : "–", "of prompt tokens from the cache"],
    [count(now.records), "records"],
  ];
  return facts.map(([value, name]) => h("div.fact", h("strong", value), h("span", name)));
}
