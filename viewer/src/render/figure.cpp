#include "render/figure.h"

#include <algorithm>
#include <cmath>

#include "muse/check.h"

namespace muse::render {
namespace {

constexpr Font kTitleFont{15, true};
constexpr Font kCaptionFont{10.5, false};
constexpr double kMargin = 18, kTitleGap = 12, kCaptionGap = 14, kColGap = 26, kRowGap = 14;
constexpr double kLeastHeightForCaption = 440;
constexpr double kLeastWidth = 56, kLeastHeight = 34;  // of a frame that still has furniture
constexpr int kPasses = 4;  // ticks depend on sizes, sizes on ticks: settles after two

double weight_at(const std::vector<double>& weights, int i) {
  return static_cast<std::size_t>(i) < weights.size() ? weights[static_cast<std::size_t>(i)] : 1.0;
}

// One direction of the grid: frames with margins on both sides of each track.
struct Tracks {
  std::vector<double> before, after, size, begin;

  Tracks(int count, double first_size)
      : before(static_cast<std::size_t>(count)),
        after(before),
        size(before.size(), first_size),
        begin(before) {}

  // Shares what margins and gaps leave of [origin, origin + length) by weight.
  void settle(double origin, double length, double gap, const std::vector<double>& weights) {
    double room = length - gap * static_cast<double>(size.size() - 1), total = 0;
    for (std::size_t i = 0; i < size.size(); ++i) {
      room -= before[i] + after[i];
      total += weight_at(weights, static_cast<int>(i));
    }
    double at = origin;
    for (std::size_t i = 0; i < size.size(); ++i) {
      size[i] = std::max(0.0, room * weight_at(weights, static_cast<int>(i)) / total);
      begin[i] = at + before[i];
      at = begin[i] + size[i] + after[i] + gap;
    }
  }

  [[nodiscard]] double end(int track, int span) const {
    const auto last = static_cast<std::size_t>(track + span - 1);
    return begin[last] + size[last];
  }
};

// The largest box of the wanted shape in the middle of `box`.
PixelBox shaped(const PixelBox& box, double aspect) {
  const double width = std::min(box.width(), box.height() * aspect),
               height = std::min(box.height(), width / aspect);
  const double x = box.x0 + 0.5 * (box.width() - width), y = box.y0 + 0.5 * (box.height() - height);
  return {x, y, x + width, y + height};
}

}  // namespace

Axes& Figure::add(int row, int col, int row_span, int col_span) {
  MUSE_REQUIRE(
      row >= 0 && col >= 0 && row_span >= 1 && col_span >= 1 && row + row_span <= 64 && col + col_span <= 64,
      "a plot at row ", row, ", column ", col, " over ", row_span, " x ", col_span, " places");
  cells_.push_back(std::make_unique<Cell>(Cell{row, col, row_span, col_span, {}}));
  return cells_.back()->axes;
}

std::vector<PixelBox> Figure::lay_out(const Canvas& canvas, const PixelBox& area, Detail detail) const {
  int rows = 1, cols = 1;
  for (const auto& cell : cells_) {
    rows = std::max(rows, cell->row + cell->row_span);
    cols = std::max(cols, cell->col + cell->col_span);
  }
  Tracks across(cols, area.width() / cols), down(rows, area.height() / rows);
  across.settle(area.x0, area.width(), canvas.px(kColGap), col_weights);
  down.settle(area.y0, area.height(), canvas.px(kRowGap), row_weights);
  std::vector<PixelBox> boxes(cells_.size());
  for (int pass = 0; pass < kPasses; ++pass) {
    // Frames of the current sizes, and the margins that they need.
    Tracks next_across(cols, 0), next_down(rows, 0);
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      const Cell& cell = *cells_[i];
      const auto row = static_cast<std::size_t>(cell.row), col = static_cast<std::size_t>(cell.col);
      PixelBox box{across.begin[col], down.begin[row], across.end(cell.col, cell.col_span),
                   down.end(cell.row, cell.row_span)};
      if (cell.axes.aspect > 0 && box.width() > 0 && box.height() > 0) box = shaped(box, cell.axes.aspect);
      boxes[i] = {std::round(box.x0), std::round(box.y0), std::round(box.x1), std::round(box.y1)};
      const Margins margins = measure_axes(cell.axes, canvas, boxes[i].width(), boxes[i].height(), detail);
      const auto last_row = row + static_cast<std::size_t>(cell.row_span) - 1;
      const auto last_col = col + static_cast<std::size_t>(cell.col_span) - 1;
      next_across.before[col] = std::max(next_across.before[col], margins.left);
      next_across.after[last_col] = std::max(next_across.after[last_col], margins.right);
      next_down.before[row] = std::max(next_down.before[row], margins.top);
      next_down.after[last_row] = std::max(next_down.after[last_row], margins.bottom);
    }
    if (pass + 1 == kPasses) break;
    next_across.settle(area.x0, area.width(), canvas.px(kColGap), col_weights);
    next_down.settle(area.y0, area.height(), canvas.px(kRowGap), row_weights);
    across = std::move(next_across);
    down = std::move(next_down);
  }
  return boxes;
}

Drawn Figure::draw_once(const std::vector<std::string>& notes) const {
  Canvas canvas(options_.width, options_.height, options_.ui_scale, Theme::make(options_.dark));
  const PixelBox picture = canvas.bounds();
  const double margin = std::min(canvas.px(kMargin), 0.04 * std::min(picture.width(), picture.height()));
  const PixelBox inner = picture.grown(-margin);
  std::string text = caption;
  for (const std::string& note : notes) text += (text.empty() ? "" : " ") + note;

  // Leave things out until the frames are large enough to be worth it.
  std::vector<PixelBox> boxes;
  std::vector<std::string> caption_lines;
  PixelBox area;
  Detail detail = Detail::all;
  const double caption_height = 1.3 * canvas.line_height(kCaptionFont);
  for (;; detail = static_cast<Detail>(static_cast<int>(detail) + 1)) {
    area = inner;
    if (detail < Detail::no_labels && !title.empty())
      area.y0 += canvas.line_height(kTitleFont) + canvas.px(kTitleGap);
    const auto most_lines = static_cast<std::size_t>(std::max(1.0, 0.3 * picture.height() / caption_height));
    caption_lines.clear();
    if (detail < Detail::no_caption && picture.height() >= canvas.px(kLeastHeightForCaption))
      caption_lines =
          canvas.wrapped(text, kCaptionFont, inner.width(), detail == Detail::all ? most_lines : 1);
    if (!caption_lines.empty())
      area.y1 -= canvas.px(kCaptionGap) + static_cast<double>(caption_lines.size()) * caption_height;
    boxes = lay_out(canvas, area, detail);
    const bool roomy = std::all_of(boxes.begin(), boxes.end(), [&](const PixelBox& box) {
      return box.width() >= canvas.px(kLeastWidth) && box.height() >= canvas.px(kLeastHeight);
    });
    if (roomy || detail == Detail::no_ticks) break;
  }

  Drawn drawn;
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    PixelBox& box = boxes[i];
    box.x1 = std::max(box.x1, box.x0 + 1);
    box.y1 = std::max(box.y1, box.y0 + 1);
    drawn.frames.push_back(draw_axes(cells_[i]->axes, canvas, box, detail, drawn.notes));
  }
  if (detail < Detail::no_labels)
    canvas.text(canvas.fitted(title, brief_title, kTitleFont, inner.width()), kTitleFont, canvas.theme().ink,
                {inner.x0, inner.y0}, HAlign::left, VAlign::top, TextRole::title);
  double y = inner.y1 - static_cast<double>(caption_lines.size()) * caption_height;
  for (const std::string& line : caption_lines) {
    canvas.text(line, kCaptionFont, canvas.theme().muted, {inner.x0, y}, HAlign::left, VAlign::top,
                TextRole::caption);
    y += caption_height;
  }

  // One sentence is enough for plots that say the same.
  std::vector<std::string> unique;
  for (const std::string& note : drawn.notes)
    if (std::find(unique.begin(), unique.end(), note) == unique.end()) unique.push_back(note);
  drawn.notes = std::move(unique);
  drawn.texts = canvas.texts();
  drawn.caption = std::move(text);
  drawn.image = canvas.image();
  return drawn;
}

Drawn Figure::draw() const {
  for (const auto& cell : cells_)
    if (cell->axes.table) cell->axes.table->first = options_.first_row;
  // Notes are known once the marks are drawn, but take room from them: draw again until both agree.
  Drawn drawn = draw_once({});
  for (int again = 0; again < 3 && !drawn.notes.empty(); ++again) {
    const std::vector<std::string> notes = drawn.notes;
    drawn = draw_once(notes);
    if (drawn.notes == notes) break;
  }
  return drawn;
}

}  // namespace muse::render
