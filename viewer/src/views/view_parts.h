// What several views share: colour scales of a quantity, captions, guides at the selection.
#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "views/view.h"

namespace muse::viewer {

/// How a quantity is coloured or scaled, as the settings have it.
struct QuantityScale {
  render::Colormap colormap;
  render::Scale scale;
  std::string words;  ///< "log scale, 1 % to 99 % of the values": for captions
};

/// `is_signed`: values on both sides of zero, which gets a diverging map and a symmetric range unless the
/// settings say otherwise. A log scale falls back to symlog where no value is positive, and says so.
template <class Scalar>
[[nodiscard]] QuantityScale quantity_scale(std::span<const Scalar> values, bool is_signed,
                                           const ViewSettings& view);

/// The scale of differences between A and B: symmetric about zero, whatever the settings of A and B are.
template <class Scalar>
[[nodiscard]] QuantityScale difference_scale(std::span<const Scalar> values, ViewSettings view);

/// Whether a metric has values of both signs.
[[nodiscard]] bool is_signed(ErrorMetric metric);

/// "source16k · layer 1 head 6 · 16384 tokens (1k = 1024) · causal · muse:retrieve=8".
[[nodiscard]] std::string subject_of(const DumpSession& session, const Slot& slot);
/// The same of all slots, "A: … B: …" where two are compared; and what a GPU computed of it.
[[nodiscard]] std::string subject_of(const DumpSession& session, const ViewState& state);

[[nodiscard]] Index queries_of(const DumpSession& session, const Slot& slot);
[[nodiscard]] Index keys_of(const DumpSession& session, const Slot& slot);

/// A token for a readout: "5000" or "5000 “int”".
[[nodiscard]] std::string token_name(const DumpSession& session, Index token);

/// "1024…2047".
[[nodiscard]] std::string span_text(Index begin, Index end);

/// " Only the 12 of 512 queries in the range 0.1 to 1." for captions; empty where all count.
[[nodiscard]] std::string counted_text(const CountedQueries& counted, const Selection& selection);

/// Errors and masses of a part, as the exports of pairs and of blocks have them: `kPartColumns`.
inline constexpr std::array<const char*, 6> kPartColumns{"exact_mass", "mass",    "lse_bias",
                                                         "alone",      "squared", "share"};
void add_part(Numbers& numbers, const PartError& part);

/// Whether a part (a block or a pair of clusters) counts: it has queries that do, and lies in the range where
/// one of such parts was selected in the histogram.
[[nodiscard]] bool part_counts(const PartError& part, ErrorPer per, const ViewState& state);
/// " Only … of …": the same for captions; empty where no such range was selected.
[[nodiscard]] std::string counted_parts_text(ErrorPer per, const Selection& selection);

/// The plot whose frame holds the point, as the beginning of a hit; `in_frame` is false where there is none.
[[nodiscard]] Hit hit_of_frame(const render::Drawn& drawn, render::Point at);

/// The row of a table that a point lies on; nothing on headings, beside the rows and below the last one.
[[nodiscard]] std::optional<std::size_t> table_row(const render::Frame& frame, render::Point at,
                                                   std::size_t rows);

/// Of `count` points, whose values `place_of` gives, the one nearest to a pixel, if one is within `reach`
/// pixels.
template <class Place>
[[nodiscard]] std::optional<Index> nearest_point(const render::Frame& frame, render::Point at, Index count,
                                                 double reach, const Place& place_of) {
  double least = reach * reach;
  std::optional<Index> nearest;
  for (Index n = 0; n < count; ++n) {
    const render::Point value = place_of(n), pixel = frame.to_pixel(value.x, value.y);
    const double distance = (pixel.x - at.x) * (pixel.x - at.x) + (pixel.y - at.y) * (pixel.y - at.y);
    if (distance < least) {
      least = distance;
      nearest = n;
    }
  }
  return nearest;
}

/// What a click on the heading of a table's column sets: `table-sort` to the word of that column; none for a
/// column without a word, or a point below the headings.
[[nodiscard]] std::optional<std::pair<std::string, std::string>> heading_option(
    const render::Frame& frame, render::Point at, std::span<const char* const> words);

/// Colours for slots A and B.
[[nodiscard]] render::Color slot_color(std::size_t slot, bool dark);

}  // namespace muse::viewer
