#include "app/window.h"

#include <backends/imgui_impl_glfw.h>
#include <backends/imgui_impl_opengl3.h>
#include <fmt/format.h>
#include <imgui.h>

#include <GLFW/glfw3.h>

#include <algorithm>
#include <utility>

#include "gl/framebuffer.h"
#include "muse/check.h"

namespace muse::viewer {

// What GLFW tells between two frames. A key that is pressed and released between two frames would go
// unnoticed by Dear ImGui: its release is held back until the next one.
struct Window::Events {
  struct Release {
    int key, scancode, mods;
  };
  bool activity = true;
  std::vector<KeyPress> keys;
  std::vector<std::string> dropped;
  std::vector<int> pressed_this_frame;
  std::vector<Release> held_back;

  static Events& of(GLFWwindow* window) { return *static_cast<Events*>(glfwGetWindowUserPointer(window)); }

  static void on_key(GLFWwindow* window, int key, int scancode, int action, int mods) {
    Events& events = of(window);
    events.activity = true;
    auto& pressed = events.pressed_this_frame;
    if (action == GLFW_RELEASE && std::find(pressed.begin(), pressed.end(), key) != pressed.end()) {
      events.held_back.push_back({key, scancode, mods});
      return;
    }
    if (action != GLFW_RELEASE) {
      events.keys.push_back({key, mods, action == GLFW_REPEAT});
      pressed.push_back(key);
    }
    ImGui_ImplGlfw_KeyCallback(window, key, scancode, action, mods);
  }

  void release_held_back(GLFWwindow* window) {
    pressed_this_frame.clear();
    for (const Release& release : std::exchange(held_back, {})) {
      ImGui_ImplGlfw_KeyCallback(window, release.key, release.scancode, GLFW_RELEASE, release.mods);
      activity = true;
    }
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

  // All events pass through here: whether any came decides how soon the next frame is drawn.
  glfwSetWindowUserPointer(window_, events_.get());
  glfwSetKeyCallback(window_, Events::on_key);
  glfwSetCharCallback(window_, [](GLFWwindow* window, unsigned c) {
    Events::of(window).activity = true;
    ImGui_ImplGlfw_CharCallback(window, c);
  });
  glfwSetMouseButtonCallback(window_, [](GLFWwindow* window, int button, int action, int mods) {
    Events::of(window).activity = true;
    ImGui_ImplGlfw_MouseButtonCallback(window, button, action, mods);
  });
  glfwSetScrollCallback(window_, [](GLFWwindow* window, double x, double y) {
    Events::of(window).activity = true;
    ImGui_ImplGlfw_ScrollCallback(window, x, y);
  });
  glfwSetCursorPosCallback(window_,
                           [](GLFWwindow* window, double, double) { Events::of(window).activity = true; });
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
  events_->release_held_back(window_);
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

std::vector<KeyPress> Window::take_keys() {
  return std::exchange(events_->keys, {});
}

std::vector<std::string> Window::take_dropped_files() {
  return std::exchange(events_->dropped, {});
}

bool Window::is_down(int key) const {
  return glfwGetKey(window_, key) == GLFW_PRESS;
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
