#include "app/window.h"

#include <backends/imgui_impl_glfw.h>
#include <backends/imgui_impl_opengl3.h>
#include <fmt/format.h>
#include <imgui.h>

#include <GLFW/glfw3.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "app/input_queue.h"
#include "gl/framebuffer.h"
#include "muse/check.h"

namespace muse::viewer {

// What GLFW tells between two frames.
struct Window::Events {
  bool activity = true;
  InputQueue queue;
  std::vector<std::string> dropped;
  // As the events that frames have taken so far leave it.
  std::vector<int> keys_down;
  bool buttons_down[ImGuiMouseButton_COUNT] = {};
  InputTaken taken;

  static Events& of(GLFWwindow* window) { return *static_cast<Events*>(glfwGetWindowUserPointer(window)); }

  static void push(GLFWwindow* window, const InputEvent& event) {
    of(window).activity = true;
    of(window).queue.push(event);
  }
};

Window::Window(int width, int height, const std::string& title, bool hidden)
    : events_(std::make_unique<Events>()) {
  static std::string problem;
  problem.clear();
  glfwSetErrorCallback([](int, const char* text) { problem = text; });
  const auto refuse = [] {
    throw UsageError(
        fmt::format("no window can be opened ({}); use --export FILE to write a picture without one, or run "
                    "under 'xvfb-run -a'",
                    problem.empty() ? "no reason given" : problem));
  };
  if (glfwInit() == GLFW_FALSE) refuse();
  glfwWindowHint(GLFW_CONTEXT_VERSION_MAJOR, 3);
  glfwWindowHint(GLFW_CONTEXT_VERSION_MINOR, 3);
  glfwWindowHint(GLFW_OPENGL_PROFILE, GLFW_OPENGL_CORE_PROFILE);
  glfwWindowHint(GLFW_OPENGL_FORWARD_COMPAT, GLFW_TRUE);
  glfwWindowHint(GLFW_VISIBLE, hidden ? GLFW_FALSE : GLFW_TRUE);
  window_ = glfwCreateWindow(width, height, title.c_str(), nullptr, nullptr);
  if (window_ == nullptr) {
    const std::string reason = problem;
    glfwTerminate();
    problem = reason;
    refuse();
  }
  glfwMakeContextCurrent(window_);
  glfwSwapInterval(1);
  glfwSetWindowSizeLimits(window_, 320, 240, GLFW_DONT_CARE, GLFW_DONT_CARE);

  IMGUI_CHECKVERSION();
  ImGui::CreateContext();
  ImGui::GetIO().IniFilename = nullptr;  // nothing is kept in the working directory
  ImGui::GetIO().ConfigWindowsMoveFromTitleBarOnly = true;
  ImGui_ImplGlfw_InitForOpenGL(window_, false);
  ImGui_ImplOpenGL3_Init("#version 330 core");

  // All input passes through the queue; whether any came decides how soon the next frame is drawn.
  glfwSetWindowUserPointer(window_, events_.get());
  using Kind = InputEvent::Kind;
  glfwSetKeyCallback(window_, [](GLFWwindow* window, int key, int scancode, int action, int mods) {
    Events::push(window, {.kind = Kind::key,
                          .code = key,
                          .scancode = scancode,
                          .mods = mods,
                          .down = action != GLFW_RELEASE,
                          .repeated = action == GLFW_REPEAT});
  });
  glfwSetCharCallback(window_, [](GLFWwindow* window, unsigned c) {
    Events::push(window, {.kind = Kind::character, .code = static_cast<int>(c)});
  });
  glfwSetMouseButtonCallback(window_, [](GLFWwindow* window, int button, int action, int mods) {
    Events::push(window, {.kind = Kind::button, .code = button, .mods = mods, .down = action == GLFW_PRESS});
  });
  glfwSetScrollCallback(window_, [](GLFWwindow* window, double x, double y) {
    Events::push(window, {.kind = Kind::wheel, .x = x, .y = y});
  });
  glfwSetCursorPosCallback(window_, [](GLFWwindow* window, double x, double y) {
    Events::push(window, {.kind = Kind::pointer, .x = x, .y = y});
  });
  glfwSetCursorEnterCallback(window_, [](GLFWwindow* window, int entered) {
    Events::of(window).activity = true;
    ImGui_ImplGlfw_CursorEnterCallback(window, entered);
  });
  glfwSetWindowFocusCallback(window_, [](GLFWwindow* window, int focused) {
    Events::of(window).activity = true;
    ImGui_ImplGlfw_WindowFocusCallback(window, focused);
  });
  glfwSetFramebufferSizeCallback(window_,
                                 [](GLFWwindow* window, int, int) { Events::of(window).activity = true; });
  glfwSetWindowRefreshCallback(window_, [](GLFWwindow* window) { Events::of(window).activity = true; });
  glfwSetWindowIconifyCallback(window_, [](GLFWwindow* window, int) { Events::of(window).activity = true; });
  glfwSetWindowContentScaleCallback(
      window_, [](GLFWwindow* window, float, float) { Events::of(window).activity = true; });
  glfwGetCursorPos(window_, &events_->taken.x, &events_->taken.y);
  glfwSetDropCallback(window_, [](GLFWwindow* window, int count, const char** paths) {
    Events& events = Events::of(window);
    events.activity = true;
    for (int i = 0; i < count; ++i) events.dropped.emplace_back(paths[i]);
  });
}

Window::~Window() {
  ImGui_ImplOpenGL3_Shutdown();
  ImGui_ImplGlfw_Shutdown();
  ImGui::DestroyContext();
  glfwDestroyWindow(window_);
  glfwTerminate();
}

void Window::wait_events(double seconds) {
  if (seconds > 0 && !events_->activity)
    glfwWaitEventsTimeout(seconds);
  else
    glfwPollEvents();
}

void Window::wake() {
  glfwPostEmptyEvent();
}

bool Window::take_activity() {
  return std::exchange(events_->activity, false);
}

std::vector<KeyPress> Window::take_input(bool typing) {
  std::vector<KeyPress> presses;
  InputTaken& taken = events_->taken;
  for (const InputEvent& event : events_->queue.take_frame(typing)) {
    switch (event.kind) {
      case InputEvent::Kind::key: {
        ImGui_ImplGlfw_KeyCallback(window_, event.code, event.scancode,
                                   event.repeated ? GLFW_REPEAT
                                   : event.down   ? GLFW_PRESS
                                                  : GLFW_RELEASE,
                                   event.mods);
        auto& down = events_->keys_down;
        std::erase(down, event.code);
        if (!event.down) break;
        down.push_back(event.code);
        if (!event.repeated && !is_modifier(event.code)) ++taken.keys;
        presses.push_back({event.code, event.mods, event.repeated});
        break;
      }
      case InputEvent::Kind::character:
        ImGui_ImplGlfw_CharCallback(window_, static_cast<unsigned>(event.code));
        break;
      case InputEvent::Kind::pointer:
        taken.x = event.x;
        taken.y = event.y;
        break;
      case InputEvent::Kind::button:
        if (event.code < ImGuiMouseButton_COUNT) events_->buttons_down[event.code] = event.down;
        if (event.down) ++taken.clicks;
        break;
      case InputEvent::Kind::wheel:
        ImGui_ImplGlfw_ScrollCallback(window_, event.x, event.y);
        ++taken.notches;
        break;
    }
  }
  return presses;
}

bool Window::has_input() const {
  return !events_->queue.empty();
}

std::vector<std::string> Window::take_dropped_files() {
  return std::exchange(events_->dropped, {});
}

const InputTaken& Window::input_taken() const {
  return events_->taken;
}

bool Window::is_down(int key) const {
  const auto& down = events_->keys_down;
  return std::find(down.begin(), down.end(), key) != down.end();
}

bool Window::should_close() const {
  return glfwWindowShouldClose(window_) == GLFW_TRUE;
}

void Window::close() {
  glfwSetWindowShouldClose(window_, GLFW_TRUE);
}

void Window::set_title(const std::string& title) {
  glfwSetWindowTitle(window_, title.c_str());
}

int Window::width() const {
  int width = 0, height = 0;
  glfwGetFramebufferSize(window_, &width, &height);
  return width;
}

int Window::height() const {
  int width = 0, height = 0;
  glfwGetFramebufferSize(window_, &width, &height);
  return height;
}

double Window::pixels_per_unit() const {
  int units = 0, height = 0;
  glfwGetWindowSize(window_, &units, &height);
  return units > 0 ? static_cast<double>(width()) / units : 1;
}

bool Window::is_minimised() const {
  return glfwGetWindowAttrib(window_, GLFW_ICONIFIED) == GLFW_TRUE || width() == 0 || height() == 0;
}

double Window::content_scale() const {
  float x = 1, y = 1;
  glfwGetWindowContentScale(window_, &x, &y);
  return std::max(0.5f, x);
}

void Window::begin_frame() {
  ImGui_ImplOpenGL3_NewFrame();
  ImGui_ImplGlfw_NewFrame();
  // The backend asks where the mouse is now; a frame has it where the frame's events left it.
  ImGuiIO& io = ImGui::GetIO();
  if (ImGui::IsMousePosValid(&io.MousePos))
    io.MousePos = {static_cast<float>(events_->taken.x), static_cast<float>(events_->taken.y)};
  std::copy(std::begin(events_->buttons_down), std::end(events_->buttons_down), io.MouseDown);
  ImGui::NewFrame();
}

void Window::end_frame(render::Color background, std::optional<render::Image>* captured) {
  ImGui::Render();
  clear_framebuffer(width(), height(), background);
  ImGui_ImplOpenGL3_RenderDrawData(ImGui::GetDrawData());
  if (captured != nullptr) *captured = read_framebuffer(width(), height());
  glfwSwapBuffers(window_);
}

void Window::renew_fonts() {
  ImGui_ImplOpenGL3_DestroyFontsTexture();
  ImGui_ImplOpenGL3_CreateFontsTexture();
}

}  // namespace muse::viewer
