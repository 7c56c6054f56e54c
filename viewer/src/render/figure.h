// A picture of one or several plots with a title and a caption.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "render/axes.h"
#include "render/canvas.h"
#include "render/image.h"

namespace muse::render {

/// Size and look, as the command line and the viewer's window give them.
struct FigureOptions {
  int width = 1200;     ///< pixels of the picture
  int height = 700;     ///< pixels of the picture
  double ui_scale = 1;  ///< 2 on a HiDPI screen: text and lines are twice as large
  bool dark = false;
  bool minimap = true;        ///< beside a zoomed map; the window has one of its own
  std::size_t first_row = 0;  ///< of tables with more rows than fit

  friend bool operator==(const FigureOptions&, const FigureOptions&) = default;
};

/// A picture, and what is where in it.
struct Drawn {
  Image image;
  std::vector<Frame> frames;       ///< of the plots, in the order in which they were added
  std::vector<TextBox> texts;      ///< all text, in the order of drawing
  std::vector<std::string> notes;  ///< what the caption adds: aggregation, things left out
  std::string caption;             ///< with the notes; also where the picture has no room for it
};

/// Plots on a grid. A small picture, such as one of many panels of a window, has no caption: there it takes
/// more room than it is worth, and whoever shows the picture has its text.
/// Frames in one row or column of the grid are aligned; all text has room and none is cut
/// off. What a small picture has no room for is left out in the order of Detail. Drawing the same figure
/// gives the same pixels.
class Figure {
 public:
  explicit Figure(FigureOptions options) : options_(options) {}

  std::string title;
  std::string brief_title;  ///< where there is no room for the title
  std::string caption;
  std::vector<double> row_weights, col_weights;  ///< relative sizes of the frames; missing ones are 1

  /// A new plot at a place of the grid. The reference stays valid as long as the figure.
  Axes& add(int row = 0, int col = 0, int row_span = 1, int col_span = 1);

  [[nodiscard]] Drawn draw() const;

 private:
  struct Cell {
    int row, col, row_span, col_span;
    Axes axes;
  };

  [[nodiscard]] Drawn draw_once(const std::vector<std::string>& notes) const;
  [[nodiscard]] std::vector<PixelBox> lay_out(const Canvas& canvas, const PixelBox& area,
                                              Detail detail) const;

  FigureOptions options_;
  std::vector<std::unique_ptr<Cell>> cells_;
};

}  // namespace muse::render
