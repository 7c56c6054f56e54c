// What several views share: colour scales of a quantity, captions, guides at the selection.
#pragma once

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

/// Whether a metric has values of both signs.
[[nodiscard]] bool is_signed(ErrorMetric metric);

/// "source16k · layer 1 head 6 · 16384 tokens (1k = 1024) · causal · muse:retrieve=8".
[[nodiscard]] std::string subject_of(const DumpSession& session, const Slot& slot);
/// The same of all slots, "A: … B: …" where two are compared.
[[nodiscard]] std::string subject_of(const DumpSession& session, const ViewState& state);

[[nodiscard]] Index queries_of(const DumpSession& session, const Slot& slot);
[[nodiscard]] Index keys_of(const DumpSession& session, const Slot& slot);

/// A token for a readout: "5000" or "5000 “int”".
[[nodiscard]] std::string token_name(const DumpSession& session, Index token);

/// "1024…2047".
[[nodiscard]] std::string span_text(Index begin, Index end);

/// " Only the 12 of 512 queries in the range 0.1 to 1." for captions; empty where all count.
[[nodiscard]] std::string counted_text(const CountedQueries& counted, const Selection& selection);

/// Whether a part (a block or a pair of clusters) counts: it has queries that do, and lies in the range where
/// one of such parts was selected in the histogram.
[[nodiscard]] bool part_counts(const PartError& part, ErrorPer per, const ViewState& state);
/// " Only … of …": the same for captions; empty where no such range was selected.
[[nodiscard]] std::string counted_parts_text(ErrorPer per, const Selection& selection);

/// The plot whose frame holds the point, or -1.
[[nodiscard]] int frame_at(const render::Drawn& drawn, render::Point at);

/// What a click on the heading of a table's column sets: `table-sort` to the word of that column; none for a
/// column without a word, or a point below the headings.
[[nodiscard]] std::optional<std::pair<std::string, std::string>> heading_option(
    const render::Frame& frame, render::Point at, std::span<const char* const> words);

/// Colours for slots A and B.
[[nodiscard]] render::Color slot_color(std::size_t slot, bool dark);

}  // namespace muse::viewer
