#include "model/dump_session.h"

#include <fmt/format.h>

#include "muse/check.h"

namespace muse::viewer {
namespace {

constexpr std::size_t kKeptHeads = 4;

}  // namespace

DumpSession::DumpSession(std::filesystem::path path) : path_(std::move(path)), dump_(read_dump(path_)) {}

std::string DumpSession::name() const {
  const std::filesystem::path clean = path_.lexically_normal();
  return (clean.has_filename() ? clean.filename() : clean.parent_path().filename()).string();
}

std::string DumpSession::head_name(Index batch, Index head) const {
  const auto index = static_cast<std::size_t>(head);
  const std::string name =
      index < dump_.head_names.size() ? dump_.head_names[index] : fmt::format("head {}", head);
  return dump_.batch() > 1 ? fmt::format("sequence {} {}", batch, name) : name;
}

std::string DumpSession::token_text(Index token) const {
  const auto index = static_cast<std::size_t>(token);
  return token >= 0 && index < dump_.tokens.size() ? dump_.tokens[index] : "";
}

template <>
std::list<DumpSession::Kept<float>>& DumpSession::kept() const {
  return kept_float_;
}
template <>
std::list<DumpSession::Kept<double>>& DumpSession::kept() const {
  return kept_double_;
}

template <class Scalar>
std::shared_ptr<const Head<Scalar>> DumpSession::head(Index batch, Index head, Index tokens) const {
  if (batch < 0 || batch >= dump_.batch())
    throw UsageError(
        fmt::format("--batch: expected an index from 0 to {}, found {}", dump_.batch() - 1, batch));
  if (head < 0 || head >= dump_.heads_q())
    throw UsageError(
        fmt::format("--head: expected an index from 0 to {}, found {}", dump_.heads_q() - 1, head));
  const std::lock_guard lock(mutex_);
  auto& list = kept<Scalar>();
  for (auto entry = list.begin(); entry != list.end(); ++entry)
    if (entry->batch == batch && entry->head == head && entry->tokens == tokens) {
      list.splice(list.begin(), list, entry);
      return entry->matrices;
    }
  auto matrices = std::make_shared<const Head<Scalar>>(load_head<Scalar>(dump_, batch, head, tokens));
  list.push_front({batch, head, tokens, matrices});
  if (list.size() > kKeptHeads) list.pop_back();
  return matrices;
}

template std::shared_ptr<const Head<float>> DumpSession::head<float>(Index, Index, Index) const;
template std::shared_ptr<const Head<double>> DumpSession::head<double>(Index, Index, Index) const;

}  // namespace muse::viewer
