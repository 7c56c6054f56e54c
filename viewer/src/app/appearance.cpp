#include "app/appearance.h"

#include <fontconfig/fontconfig.h>

#include <string>

namespace muse::viewer {
namespace {

constexpr double kFontSize = 14;  // logical pixels

// Latin, Greek and what formulas are written with.
constexpr ImWchar kTextGlyphs[] = {0x20,   0x17f,  0x300,  0x36f,  0x370,  0x3ff,  0x1e00, 0x1eff, 0x2010,
                                   0x205e, 0x2070, 0x209f, 0x2100, 0x214f, 0x2190, 0x21ff, 0x2200, 0x22ff,
                                   0x2300, 0x23ff, 0x25a0, 0x26ff, 0x2758, 0x275a, 0};
constexpr ImWchar kBoldGlyphs[] = {0x20, 0x17f, 0x370, 0x3ff, 0x2010, 0x205e, 0};

// The file of the font that the pictures are drawn with too; empty: the desktop has none.
std::string font_file(bool bold) {
  FcPattern* pattern = FcNameParse(
      reinterpret_cast<const FcChar8*>(bold ? "DejaVu Sans:style=Bold" : "DejaVu Sans:style=Book"));
  FcConfigSubstitute(nullptr, pattern, FcMatchPattern);
  FcDefaultSubstitute(pattern);
  FcResult result = FcResultNoMatch;
  FcPattern* match = FcFontMatch(nullptr, pattern, &result);
  std::string file;
  FcChar8* name = nullptr;
  if (match != nullptr && FcPatternGetString(match, FC_FILE, 0, &name) == FcResultMatch)
    file = reinterpret_cast<const char*>(name);
  if (match != nullptr) FcPatternDestroy(match);
  FcPatternDestroy(pattern);
  return file.ends_with(".ttf") || file.ends_with(".otf") || file.ends_with(".ttc") ? file : "";
}

ImFont* add_font(bool bold, float size) {
  ImFontAtlas& atlas = *ImGui::GetIO().Fonts;
  ImFontConfig config;
  config.OversampleH = 2;
  config.OversampleV = 1;
  const std::string file = font_file(bold);
  ImFont* font =
      file.empty() ? nullptr
                   : atlas.AddFontFromFileTTF(file.c_str(), size, &config, bold ? kBoldGlyphs : kTextGlyphs);
  if (font != nullptr) return font;
  config.SizePixels = size;
  return atlas.AddFontDefault(&config);
}

Palette palette_of(bool dark) {
  const render::Theme theme = render::Theme::make(dark);
  if (dark)
    return {.window = {13, 14, 17},
            .panel = theme.background,
            .ink = theme.ink,
            .muted = theme.muted,
            .border = {52, 55, 63},
            .accent = {102, 178, 255},
            .warning = {255, 140, 105}};
  return {.window = {232, 235, 240},
          .panel = theme.background,
          .ink = theme.ink,
          .muted = theme.muted,
          .border = {208, 212, 220},
          .accent = {0, 94, 184},
          .warning = {190, 50, 20}};
}

render::Color mix(render::Color a, render::Color b, double t) {
  const auto channel = [&](int x, int y) { return static_cast<std::uint8_t>(x + (y - x) * t + 0.5); };
  return {channel(a.r, b.r), channel(a.g, b.g), channel(a.b, b.b), 255};
}

void set_colors(const Palette& p) {
  ImVec4* colors = ImGui::GetStyle().Colors;
  const auto tint = [&](double t) { return to_vec4(mix(p.panel, p.accent, t)); };
  const auto gray = [&](double t) { return to_vec4(mix(p.panel, p.ink, t)); };
  colors[ImGuiCol_Text] = to_vec4(p.ink);
  colors[ImGuiCol_TextDisabled] = to_vec4(p.muted);
  colors[ImGuiCol_WindowBg] = to_vec4(p.panel);
  colors[ImGuiCol_ChildBg] = {0, 0, 0, 0};
  colors[ImGuiCol_PopupBg] = to_vec4(p.panel);
  colors[ImGuiCol_Border] = to_vec4(p.border);
  colors[ImGuiCol_FrameBg] = gray(0.06);
  colors[ImGuiCol_FrameBgHovered] = tint(0.14);
  colors[ImGuiCol_FrameBgActive] = tint(0.22);
  colors[ImGuiCol_TitleBg] = gray(0.05);
  colors[ImGuiCol_TitleBgActive] = tint(0.12);
  colors[ImGuiCol_TitleBgCollapsed] = gray(0.05);
  colors[ImGuiCol_ScrollbarBg] = {0, 0, 0, 0};
  colors[ImGuiCol_ScrollbarGrab] = gray(0.2);
  colors[ImGuiCol_ScrollbarGrabHovered] = gray(0.3);
  colors[ImGuiCol_ScrollbarGrabActive] = gray(0.4);
  colors[ImGuiCol_CheckMark] = to_vec4(p.accent);
  colors[ImGuiCol_SliderGrab] = to_vec4(p.accent);
  colors[ImGuiCol_SliderGrabActive] = to_vec4(p.accent);
  colors[ImGuiCol_Button] = gray(0.08);
  colors[ImGuiCol_ButtonHovered] = tint(0.2);
  colors[ImGuiCol_ButtonActive] = tint(0.35);
  colors[ImGuiCol_Header] = tint(0.12);
  colors[ImGuiCol_HeaderHovered] = tint(0.2);
  colors[ImGuiCol_HeaderActive] = tint(0.3);
  colors[ImGuiCol_Separator] = to_vec4(p.border);
  colors[ImGuiCol_Tab] = gray(0.05);
  colors[ImGuiCol_TabHovered] = tint(0.25);
  colors[ImGuiCol_TabActive] = tint(0.2);
  colors[ImGuiCol_TableHeaderBg] = gray(0.06);
  colors[ImGuiCol_TableBorderLight] = to_vec4(p.border);
  colors[ImGuiCol_TableBorderStrong] = to_vec4(p.border);
  colors[ImGuiCol_TableRowBgAlt] = gray(0.03);
  colors[ImGuiCol_TextSelectedBg] = tint(0.35);
  colors[ImGuiCol_PlotHistogram] = tint(0.4);  // progress: its words stand on it
  colors[ImGuiCol_ModalWindowDimBg] = {0, 0, 0, 0.35f};
  colors[ImGuiCol_NavHighlight] = to_vec4(p.accent);
}

}  // namespace

ImU32 to_u32(render::Color color) {
  return IM_COL32(color.r, color.g, color.b, color.a);
}

ImVec4 to_vec4(render::Color color) {
  return ImGui::ColorConvertU32ToFloat4(to_u32(color));
}

bool Appearance::apply(bool dark, double scale) {
  const bool new_fonts = scale != scale_;
  if (!new_fonts && dark == dark_) return false;
  dark_ = dark;
  scale_ = scale;
  palette_ = palette_of(dark);
  ImGuiStyle style;
  style.WindowPadding = {10, 8};
  style.FramePadding = {7, 4};
  style.ItemSpacing = {7, 5};
  style.ItemInnerSpacing = {5, 4};
  style.WindowRounding = 6;
  style.PopupRounding = 6;
  style.FrameRounding = 4;
  style.GrabRounding = 4;
  style.TabRounding = 4;
  style.ScrollbarSize = 11;
  style.WindowBorderSize = 1;
  style.PopupBorderSize = 1;
  style.WindowTitleAlign = {0.5f, 0.5f};
  style.ScaleAllSizes(static_cast<float>(scale));
  ImGui::GetStyle() = style;
  set_colors(palette_);
  if (new_fonts) {
    const auto size = static_cast<float>(static_cast<int>(kFontSize * scale + 0.5));
    ImGui::GetIO().Fonts->Clear();
    add_font(false, size);
    bold_ = add_font(true, size);
    ImGui::GetIO().Fonts->Build();
  }
  return new_fonts;
}

}  // namespace muse::viewer
