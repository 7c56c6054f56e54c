// Dumps for the tests of the viewer: random heads with some structure, written to a folder of their own.
#pragma once

#include <unistd.h>
#include <atomic>
#include <filesystem>
#include <memory>
#include <random>
#include <string>

#include "model/analysis.h"
#include "muse/tensor_io.h"

namespace muse::viewer {

/// Heads whose queries and keys lie around a few centres, so that clusters mean something.
inline Dump random_dump(Index heads, Index N, Index D, unsigned seed = 1, Index Nk = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  if (Nk == 0) Nk = N;
  const auto draw = [&](Index tokens, float spread) {
    std::vector<float> centres(static_cast<std::size_t>(6 * D)), values;
    for (float& c : centres) c = spread * normal(random);
    for (Index h = 0; h < heads; ++h)
      for (Index n = 0; n < tokens; ++n) {
        const auto centre = static_cast<std::size_t>(random() % 6) * static_cast<std::size_t>(D);
        for (Index d = 0; d < D; ++d)
          values.push_back(centres[centre + static_cast<std::size_t>(d)] + 0.7F * normal(random));
      }
    return make_array<float>(DType::float32, {1, heads, tokens, D}, values);
  };
  Dump dump;
  dump.q = draw(N, 1.2F);
  dump.k = draw(Nk, 1.2F);
  dump.v = draw(Nk, 1.0F);
  dump.scale = 1 / std::sqrt(static_cast<double>(D));
  dump.causal = N == Nk;
  for (Index h = 0; h < heads; ++h) dump.head_names.push_back("layer 0 head " + std::to_string(h));
  for (Index n = 0; n < Nk; ++n) dump.tokens.push_back("t" + std::to_string(n));
  return dump;
}

/// An open dump in a temporary folder that goes when the object does.
class OpenDump {
 public:
  explicit OpenDump(const Dump& dump) {
    static std::atomic<int> number{0};
    folder_ = std::filesystem::temp_directory_path() /
              ("muse-viewer-test-" + std::to_string(::getpid()) + "-" + std::to_string(number++));
    write_dump(folder_, dump);
    session = std::make_shared<const DumpSession>(folder_);
  }
  ~OpenDump() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  OpenDump(const OpenDump&) = delete;
  OpenDump& operator=(const OpenDump&) = delete;

  std::shared_ptr<const DumpSession> session;

 private:
  std::filesystem::path folder_;
};

/// A slot with small blocks and few clusters.
inline Slot small_slot(const std::string& clusters = "6", const std::string& block = "32",
                       const std::string& retrieve = "1") {
  Slot slot;
  set_option(slot.config, "clusters", clusters);
  set_option(slot.config, "block", block);
  set_option(slot.config, "retrieve", retrieve);
  return slot;
}

}  // namespace muse::viewer
