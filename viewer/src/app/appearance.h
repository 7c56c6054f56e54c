// Colours, fonts and sizes of the window, light and dark, at any scale.
#pragma once

#include <imgui.h>

#include "render/canvas.h"

namespace muse::viewer {

/// The colours that Dear ImGui's style has no place for.
struct Palette {
  render::Color window;  ///< behind the panels
  render::Color panel;   ///< under pictures and controls
  render::Color ink, muted, border;
  render::Color accent;   ///< what is active
  render::Color warning;  ///< what went wrong
};

class Appearance {
 public:
  /// Sets Dear ImGui's style and fonts; between frames only. Whether the font atlas is a new one.
  bool apply(bool dark, double scale);

  [[nodiscard]] bool dark() const { return dark_; }
  [[nodiscard]] double scale() const { return scale_; }
  [[nodiscard]] const Palette& palette() const { return palette_; }
  /// Logical pixels in pixels of the window.
  [[nodiscard]] float px(double logical) const { return static_cast<float>(logical * scale_); }
  [[nodiscard]] ImFont* bold() const { return bold_; }

 private:
  bool dark_ = false;
  double scale_ = 0;
  Palette palette_;
  ImFont* bold_ = nullptr;
};

[[nodiscard]] ImU32 to_u32(render::Color color);
[[nodiscard]] ImVec4 to_vec4(render::Color color);

}  // namespace muse::viewer
