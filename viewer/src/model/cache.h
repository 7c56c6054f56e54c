// Results by key, the latest few of them.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace muse::viewer {

template <class Result>
class Cache {
 public:
  explicit Cache(std::size_t capacity) : capacity_(capacity) {}

  /// The result if it is there, else null.
  [[nodiscard]] std::shared_ptr<const Result> find(const std::string& key) {
    const std::lock_guard lock(mutex_);
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry)
      if (entry->first == key) {
        entries_.splice(entries_.begin(), entries_, entry);
        return entry->second;
      }
    return nullptr;
  }

  /// The result, made by `make()` if it is not there. Others may use the cache while it is made.
  template <class Make>
  [[nodiscard]] std::shared_ptr<const Result> get(const std::string& key, const Make& make) {
    if (auto found = find(key)) return found;
    auto made = std::make_shared<const Result>(make());
    const std::lock_guard lock(mutex_);
    entries_.emplace_front(key, made);
    if (entries_.size() > capacity_) entries_.pop_back();
    return made;
  }

 private:
  std::size_t capacity_;
  std::mutex mutex_;
  std::list<std::pair<std::string, std::shared_ptr<const Result>>> entries_;  // the latest first
};

}  // namespace muse::viewer
