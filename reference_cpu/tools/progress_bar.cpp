#include "progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace muse::tools {
namespace {

constexpr std::chrono::milliseconds kFirstShown{1000};  // quick jobs show no bar
constexpr std::chrono::milliseconds kBetween{100};
constexpr int kWidth = 30;

}  // namespace

ProgressBar::ProgressBar(double total) : total_(total), on_terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  finish();
}

Progress& ProgressBar::start(std::string task, double weight, double units) {
  end_task();
  throw_if_interrupted();
  task_ = std::move(task);
  weight_ = weight;
  progress_.emplace([this](double fraction) { show(fraction); });
  progress_->expect(units);
  watch_.emplace(*progress_);
  show(0);
  return *progress_;
}

void ProgressBar::finish() {
  end_task();
  if (std::exchange(shown_, false)) std::fputs("\r\033[K", stderr);
}

void ProgressBar::end_task() {
  watch_.reset();
  progress_.reset();
  done_ += std::exchange(weight_, 0.0);
}

void ProgressBar::show(double fraction_of_task) {
  if (!on_terminal_) return;
  const auto now = Clock::now();
  if (now - started_ < kFirstShown || (shown_ && now - last_shown_ < kBetween)) return;
  shown_ = true;
  last_shown_ = now;
  const double fraction = std::clamp((done_ + weight_ * fraction_of_task) / total_, 0.0, 1.0);
  const int filled = static_cast<int>(fraction * kWidth);
  const double passed = std::chrono::duration<double>(now - started_).count();
  const std::string left =
      fraction > 0.02 ? fmt::format("{:.0f} s left", passed / fraction - passed) : std::string();
  fmt::print(stderr, "\r[{:█>{}}{:·>{}}] {:3.0f} %  {}  {}\033[K", "", filled, "", kWidth - filled,
             100 * fraction, task_, left);
  std::fflush(stderr);
}

}  // namespace muse::tools
