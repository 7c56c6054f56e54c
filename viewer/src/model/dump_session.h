// An open dump: its tensors, and its heads as matrices, converted when they are first looked at.
#pragma once

#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "muse/head.h"

namespace muse::viewer {

/// A dump that stays open. All members may be called from any thread.
class DumpSession {
 public:
  /// Reads the dump as stored (16-bit numbers stay 16-bit); FileError or MisfitError as muse::read_dump. Once
  /// open, the files are not needed any more.
  explicit DumpSession(std::filesystem::path path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// The last part of the path, for titles.
  [[nodiscard]] std::string name() const;
  [[nodiscard]] const Dump& dump() const { return dump_; }
  /// "layer 1 head 6", or "head 0" where the dump has no names; with the sequence in a dump that has several.
  [[nodiscard]] std::string head_name(Index batch, Index head) const;
  /// Text of a token, or "" where the dump has none. Queries have text where they are as many as keys.
  [[nodiscard]] std::string token_text(Index token) const;

  /// The first `tokens` (0: all) queries and keys of a head. Converted on first use; the last few are kept.
  template <class Scalar>
  [[nodiscard]] std::shared_ptr<const Head<Scalar>> head(Index batch, Index head, Index tokens = 0) const;

 private:
  template <class Scalar>
  struct Kept {
    Index batch, head, tokens;
    std::shared_ptr<const Head<Scalar>> matrices;
  };
  template <class Scalar>
  [[nodiscard]] std::list<Kept<Scalar>>& kept() const;

  std::filesystem::path path_;
  Dump dump_;
  mutable std::mutex mutex_;
  mutable std::list<Kept<float>> kept_float_;    // the latest first
  mutable std::list<Kept<double>> kept_double_;  // likewise
};

}  // namespace muse::viewer
