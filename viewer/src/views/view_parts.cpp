#include "views/view_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace muse::viewer {

template <class Scalar>
QuantityScale quantity_scale(std::span<const Scalar> values, bool is_signed, const ViewSettings& view) {
  using namespace render;
  QuantityScale result;
  const ScaleKind automatic = is_signed ? ScaleKind::symlog : ScaleKind::log;
  ScaleKind kind = view.scale.value_or(automatic);
  const bool any_positive =
      std::any_of(values.begin(), values.end(), [](Scalar v) { return std::isfinite(v) && v > 0; });
  const bool all_positive_range = view.range.percentiles || view.range.low > 0;
  if (kind == ScaleKind::log && (!any_positive || !all_positive_range)) kind = ScaleKind::symlog;
  const ColormapName name =
      view.colormap.value_or(is_signed ? ColormapName::diverging : ColormapName::viridis);
  Range range;
  std::string span;
  if (!view.range.percentiles) {
    range = {view.range.low, view.range.high};
    span = fmt::format("{} to {}", short_number(range.low), short_number(range.high));
  } else if (view.range == RangeRule{}) {
    range = finite_range(values, kind);
    span = "all values";
  } else {
    range = percentile_range(values, view.range.low, view.range.high, kind);
    span = fmt::format("{} % to {} % of the values", view.range.low, view.range.high);
  }
  // A diverging map means zero by its middle.
  if (name == ColormapName::diverging && kind != ScaleKind::log) range = symmetric(range);
  // Many decades of nothing hide what matters: an automatic range spans six.
  if (view.range == RangeRule{} && kind == ScaleKind::log && range.low < range.high * 1e-6) {
    range.low = range.high * 1e-6;
    span = "the largest six decades";
  }
  if (range.low == range.high && kind != ScaleKind::log)
    range.high += range.low == 0 ? 1 : std::abs(range.low);
  result.colormap = Colormap(name);
  result.scale = Scale(kind, range);
  result.words = fmt::format("{} scale over {}", name_of(kind), span);
  return result;
}

template QuantityScale quantity_scale<float>(std::span<const float>, bool, const ViewSettings&);
template QuantityScale quantity_scale<double>(std::span<const double>, bool, const ViewSettings&);

template <class Scalar>
QuantityScale difference_scale(std::span<const Scalar> values, ViewSettings view) {
  view.range = {};
  view.scale.reset();
  view.colormap.reset();
  return quantity_scale(values, true, view);
}

template QuantityScale difference_scale<float>(std::span<const float>, ViewSettings);
template QuantityScale difference_scale<double>(std::span<const double>, ViewSettings);

bool is_signed(ErrorMetric metric) {
  return metric == ErrorMetric::signed_difference;
}

Index queries_of(const DumpSession& session, const Slot& slot) {
  const Index N = session.dump().tokens_q();
  return slot.tokens == 0 ? N : std::min(N, slot.tokens);
}

Index keys_of(const DumpSession& session, const Slot& slot) {
  const Index N = session.dump().tokens_k();
  return slot.tokens == 0 ? N : std::min(N, slot.tokens);
}

std::string subject_of(const DumpSession& session, const Slot& slot) {
  return fmt::format("{} · {} · {} tokens (1k = 1024) · {} · {}", session.name(),
                     session.head_name(slot.batch, slot.head), queries_of(session, slot),
                     muse::name_of(slot.config.mode), slot_word(slot));
}

namespace {

// " Outputs and clusters are computed on the GPU …": empty where no slot runs there.
std::string device_text(const ViewState& state) {
  std::string where;
  for (std::size_t s = 0; s < state.slots.size(); ++s) {
    const Slot& slot = state.slots[s];
    if (!slot.on_gpu()) continue;
    const std::string numbers = fmt::format("in {}", tools::dtype_word(slot.device));
    where += (where.empty() ? "" : ", ") +
             (state.comparing() ? fmt::format("those of {} {}", s == 0 ? "A" : "B", numbers) : numbers);
  }
  if (where.empty()) return {};
  return fmt::format(
      " Outputs and clusters are computed on the GPU, {}; exact attention, and what is shown of single "
      "blocks, "
      "clusters and keys, on the CPU in float, from the same clusters.",
      where);
}

}  // namespace

std::string subject_of(const DumpSession& session, const ViewState& state) {
  const Slot& a = state.a();
  if (!state.comparing()) return subject_of(session, a) + "." + device_text(state);
  const Slot& b = state.slots[1];
  std::string text = fmt::format("{} · {} · {} tokens (1k = 1024) · {} · A: {} · B: {}", session.name(),
                                 session.head_name(a.batch, a.head), queries_of(session, a),
                                 muse::name_of(a.config.mode), slot_word(a), slot_word(b));
  if (b.head != a.head || b.batch != a.batch) text += " on " + session.head_name(b.batch, b.head);
  if (b.config.mode != a.config.mode) text += fmt::format(" in mode {}", muse::name_of(b.config.mode));
  return text + "." + device_text(state);
}

std::string token_name(const DumpSession& session, Index token) {
  const std::string text = session.token_text(token);
  return text.empty() ? fmt::format("{}", token) : fmt::format("{} “{}”", token, text);
}

std::string span_text(Index begin, Index end) {
  return fmt::format("{}…{}", begin, end - 1);
}

std::string counted_text(const CountedQueries& counted, const Selection& selection) {
  if (counted.all() || !selection.filter) return {};
  const Index N = std::ssize(counted.flags);
  return fmt::format(" Only the {} of {} queries with an error of {} to {} count.", counted.count(N), N,
                     render::short_number(selection.filter->low),
                     render::short_number(selection.filter->high));
}

bool part_counts(const PartError& part, ErrorPer per, const ViewState& state) {
  if (part.queries == 0) return false;
  const std::optional<ValueFilter>& filter = state.selection.filter;
  return !filter || filter->per != per || filter->holds(part.by(state.view.error_metric()));
}

std::string counted_parts_text(ErrorPer per, const Selection& selection) {
  if (!selection.filter || selection.filter->per != per) return {};
  return fmt::format(" Only {} with an error of {} to {} are shown.",
                     per == ErrorPer::pair ? "pairs" : "blocks", render::short_number(selection.filter->low),
                     render::short_number(selection.filter->high));
}

Hit hit_of_frame(const render::Drawn& drawn, render::Point at) {
  Hit hit;
  for (std::size_t i = 0; i < drawn.frames.size() && !hit.in_frame; ++i) {
    hit.in_frame = drawn.frames[i].box.holds(at);
    if (hit.in_frame) hit.frame = i;
  }
  return hit;
}

std::optional<std::size_t> table_row(const render::Frame& frame, render::Point at, std::size_t rows) {
  const double row = std::floor(frame.y.to_value(at.y));
  const auto& scrolled = frame.scrolled;
  const std::size_t end = scrolled ? scrolled->first + scrolled->shown : rows;
  if (!(row >= frame.y.scale().range().low) || row >= static_cast<double>(std::min(end, rows)))
    return std::nullopt;
  if (scrolled && at.x >= scrolled->track.x0) return std::nullopt;
  return static_cast<std::size_t>(row);
}

void add_part(Numbers& numbers, const PartError& part) {
  numbers.add({part.exact_mass, part.mass, part.lse_bias, part.alone, part.squared, part.share});
}

std::optional<std::pair<std::string, std::string>> heading_option(const render::Frame& frame,
                                                                  render::Point at,
                                                                  std::span<const char* const> words) {
  if (frame.y.to_value(at.y) >= frame.y.scale().range().low) return std::nullopt;
  std::size_t column = 0;
  while (column + 1 < frame.columns.size() && at.x >= frame.columns[column + 1]) ++column;
  if (column >= words.size() || words[column][0] == 0) return std::nullopt;
  return std::pair<std::string, std::string>("table-sort", words[column]);
}

render::Color slot_color(std::size_t slot, bool dark) {
  if (slot == 0) return dark ? render::Color{102, 178, 255} : render::Color{0, 94, 184};
  return dark ? render::Color{255, 166, 77} : render::Color{196, 88, 0};
}

}  // namespace muse::viewer
