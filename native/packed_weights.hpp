// A model's packed weights to and from one file.
#pragma once

#include <string>

#include "model.hpp"
#include "packed_file.hpp"

namespace minivault {

// False if the disk does not take it.
bool save_weights(Model& model, const std::string& path, const PackedKey& key);
// False, with the model untouched, if there is no sound file for this key and this model.
bool load_weights(Model& model, const std::string& path, const PackedKey& key);

}  // namespace minivault
