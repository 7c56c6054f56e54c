// The parameters of the method, of slot A or B: a control for each row of the option table.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "muse/check.h"
#include "panels/option_control.h"
#include "panels/panels.h"

namespace muse::viewer {
namespace {

const char* formula_of(const std::string& option) {
  if (option == "mode") return "docs/math.md, section 6: (6.1) says which blocks cover the causal triangle.";
  if (option == "order")
    return "docs/math.md, section 4: what is kept of the expansion about the tilted centroid (3.4).";
  if (option == "cluster-by" || option == "metric" || option == "passes" || option == "seed")
    return "docs/math.md, section 2.";
  if (option == "clusters-q" || option == "clusters-k")
    return "C in docs/math.md, section 2. Cost falls and error grows as C falls.";
  if (option == "retrieve") return "r in docs/math.md, section 5. Error falls and cost grows with r.";
  if (option == "block") return "B in docs/math.md, section 6: N / B diagonal blocks are exact.";
  return "";
}

OptionHints hints_of(const OptionInfo& option) {
  OptionHints hints{.more_help = formula_of(option.name)};
  if (option.type == "RULE")
    hints.presets = {"S/16:32:512", "S/8:64:1024", "S/32:16:256", "S/64:8:128", "32", "64", "128", "256"};
  if (option.name == "retrieve") hints.presets = {"0", "1", "2", "4", "8", "16", "32"};
  if (option.name == "block") hints.least = 1;
  return hints;
}

// Twice or half as many clusters, of queries and keys.
void scale_clusters(Config& config, bool more) {
  for (PerLevel<ClusterRule>* rules : {&config.clusters_q, &config.clusters_k})
    for (ClusterRule& rule : rules->values) {
      const auto scaled = [&](std::int64_t n) { return more ? 2 * n : std::max<std::int64_t>(1, n / 2); };
      if (rule.divisor > 0)
        rule.divisor = more ? std::max<std::int64_t>(1, rule.divisor / 2) : 2 * rule.divisor;
      rule.low = scaled(rule.low);
      rule.high = std::max(rule.low, rule.divisor > 0 ? scaled(rule.high) : rule.high);
    }
}

void draw_method(Ui& ui, Slot& slot) {
  const std::pair<const char*, Method> methods[] = {
      {"muse", Method::muse}, {"exact", Method::exact}, {"local", Method::local}};
  for (const auto& [word, method] : methods) {
    if (method != Method::muse) ImGui::SameLine(0, ui.px(2));
    const char* help = method == Method::muse    ? "multipole semantic attention"
                       : method == Method::exact ? "exact attention (1.1)"
                                                 : "the diagonal blocks alone";
    if (toggle(ui.controls, fmt::format("method.{}", word), word, slot.method == method, help))
      slot.method = method;
  }
}

// Where the method runs, and in which numbers.
void draw_device(Ui& ui, Slot& slot) {
  OptionHints hints;
  if (!ui.gpu_problem)
    hints.more_help = "Looking for a GPU …";
  else if (!ui.gpu_problem->empty())
    hints.more_help = "No GPU to run on: " + *ui.gpu_problem + ".";
  else
    hints.more_help =
        "A GPU is there. Exact and local attention, and what is shown of single blocks, clusters and "
        "keys, run on the CPU all the same.";
  if (!ui.gpu_problem || !ui.gpu_problem->empty()) hints.refused = {{"cuda", hints.more_help}};
  OptionInfo device{"device", "cpu|cuda", "", "cpu", "where the method muse runs"};
  if (const auto text =
          option_control(ui.controls, "slot.device", device, tools::device_word(slot.device), hints))
    slot.device.gpu = *text == "cuda";

  const std::vector<std::string>& words = tools::dtype_words(slot.device.gpu);
  OptionInfo dtype{"dtype", fmt::format("{}", fmt::join(words, "|")), "", words.front(),
                   "numbers to compute attention in"};
  if (const auto text = option_control(ui.controls, "slot.dtype", dtype, tools::dtype_word(slot.device)))
    slot.device = tools::parse_device(tools::device_word(slot.device), *text);
}

void draw_cluster_buttons(Ui& ui, Slot& slot) {
  const float width = ImGui::GetContentRegionAvail().x, left = ImGui::GetCursorPosX();
  ImGui::AlignTextToFramePadding();
  ImGui::TextDisabled("clusters");
  ImGui::SameLine(left + 0.42f * width);
  const float half = 0.5f * (ImGui::GetContentRegionAvail().x - ui.px(2));
  if (ImGui::Button("half##clusters", {half, 0})) scale_clusters(slot.config, false);
  ui.controls.note("clusters.half");
  tooltip("half as many clusters, of queries and keys: quicker, larger errors");
  ImGui::SameLine(0, ui.px(2));
  if (ImGui::Button("double##clusters", {half, 0})) scale_clusters(slot.config, true);
  ui.controls.note("clusters.double");
  tooltip("twice as many clusters, of queries and keys: slower, smaller errors");
}

// What accuracy and cost depend on first stands on top; these parameters stand below it.
bool is_further(const OptionInfo& option) {
  constexpr std::array<std::string_view, 7> kFurther{"mode",   "cluster-by",     "metric", "passes",
                                                     "sample", "cluster-window", "seed"};
  return std::find(kFurther.begin(), kFurther.end(), option.name) != kFurther.end();
}

bool matters(const OptionInfo& option, const Slot& slot) {
  return slot.method != Method::local || option.name == "mode" || option.name == "block";
}

// " (2 changed)" of those that stand below; empty where all have their defaults.
std::string changed_words(const Slot& slot) {
  const auto& table = option_table();
  const auto changed = std::count_if(table.begin(), table.end(), [&](const OptionInfo& option) {
    return is_further(option) && matters(option, slot) &&
           get_option(slot.config, option.name) != option.default_value;
  });
  return changed > 0 ? fmt::format(" ({} changed)", changed) : "";
}

void draw_options(Ui& ui, Slot& slot, bool further) {
  for (const OptionInfo& option : option_table()) {
    if (is_further(option) != further || !matters(option, slot)) continue;
    const auto text = option_control(ui.controls, "slot." + option.name, option,
                                     get_option(slot.config, option.name), hints_of(option));
    if (!text) continue;
    try {
      Config changed = slot.config;
      set_option(changed, option.name, *text);
      slot.config = changed;
    } catch (const UsageError& error) {
      ui.tell("That setting was not taken", error.what());
    }
  }
}

void draw_tokens(Ui& ui, const Slot& slot) {
  OptionInfo info{"tokens", "all|INT", "tokens", "all",
                  "only the first so many queries and keys: quicker to try things"};
  const Index N = std::min(ui.workspace.session->dump().tokens_q(), ui.workspace.session->dump().tokens_k());
  const OptionHints hints{.least = 1, .most = N};
  const auto text = option_control(ui.controls, "slot.tokens", info,
                                   slot.tokens == 0 ? "all" : fmt::format("{}", slot.tokens), hints);
  if (!text) return;
  // Both slots: what is compared has as many tokens.
  const auto use = [&](Index tokens) {
    for (Slot& each : ui.workspace.slots) each.tokens = tokens;
  };
  if (*text == "all") {
    use(0);
    return;
  }
  try {
    ViewSettings parsed;  // the same rules for whole numbers
    set_view_option(parsed, "block-index", *text);
    use(std::clamp<Index>(parsed.block.value_or(N), 1, N));
  } catch (const UsageError&) {
    ui.tell("That setting was not taken",
            fmt::format("--tokens: expected all, or a whole number from 1 to {}, found '{}'", N, *text));
  }
}

}  // namespace

void draw_slot_controls(Ui& ui) {
  Workspace& w = ui.workspace;
  // Which slot is edited.
  for (std::size_t s = 0; s < 2; ++s) {
    if (s > 0) ImGui::SameLine(0, ui.px(2));
    const char* name = s == 0 ? "Slot A" : "Slot B";
    if (toggle(ui.controls, s == 0 ? "edit.a" : "edit.b", name, w.edited_slot == s,
               "the controls below are those of this slot")) {
      w.edited_slot = s;
      // What is changed should be seen.
      if (w.shown != Shown::both) w.shown = s == 0 ? Shown::a : Shown::b;
    }
  }
  ImGui::SameLine(0, ui.px(10));
  const std::size_t other = 1 - w.edited_slot;
  if (button(ui.controls, "slot.copy", other == 0 ? "Copy A" : "Copy B",
             "the other slot's parameters, to change from there"))
    w.take_setting(w.slots[other]);
  ImGui::SameLine(0, ui.px(2));
  if (button(ui.controls, "slot.reset", "Reset", "all parameters back to their defaults")) {
    Slot fresh;
    fresh.config.mode = w.slots[w.edited_slot].config.mode;
    w.take_setting(fresh);
  }

  Slot& slot = w.slots[w.edited_slot];
  if (w.edited_slot == 1 && w.session->dump().heads_q() > 1) {
    if (ImGui::Checkbox("a head of its own", &w.own_head) && !w.own_head) slot.head = w.slots[0].head;
    ui.controls.note("slot.own_head");
    if (w.own_head) {
      ImGui::SameLine();
      ImGui::SetNextItemWidth(-1);
      const std::string shown = w.session->head_name(slot.batch, slot.head);
      if (ImGui::BeginCombo("##head of B", shown.c_str())) {
        for (Index head = 0; head < w.session->dump().heads_q(); ++head)
          if (ImGui::Selectable(w.session->head_name(slot.batch, head).c_str(), head == slot.head))
            slot.head = head;
        ImGui::EndCombo();
      }
      ui.controls.note("slot.head");
    }
  }
  draw_method(ui, slot);
  draw_device(ui, slot);
  ImGui::Spacing();
  ImGui::BeginDisabled(slot.method == Method::exact);
  if (slot.method != Method::local) draw_cluster_buttons(ui, slot);
  draw_options(ui, slot, false);
  const std::string title = fmt::format("More parameters{}", changed_words(slot));
  const bool more = ImGui::TreeNodeEx((title + "###more").c_str(), ImGuiTreeNodeFlags_NoTreePushOnOpen);
  ui.controls.note("slot.more");
  tooltip("how tokens are clustered, and the mode");
  if (more) draw_options(ui, slot, true);
  ImGui::EndDisabled();
  draw_tokens(ui, slot);
}

}  // namespace muse::viewer
