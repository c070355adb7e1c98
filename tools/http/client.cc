#include "tools/http/client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace clouddisk {
namespace {

constexpr std::size_t kAnswerBytesMax = 64 * 1024 * 1024;

using Handle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;

std::size_t take(const char* data, std::size_t, std::size_t size, void* into) {
  auto* body = static_cast<std::string*>(into);
  if (size > kAnswerBytesMax - body->size()) return 0;  // Ends the transfer: CURLE_WRITE_ERROR.
  body->append(data, size);
  return size;
}

Error from_curl(CURL* handle, CURLcode code, const Address& address) {
  long system = 0;
  curl_easy_getinfo(handle, CURLINFO_OS_ERRNO, &system);
  switch (code) {
    case CURLE_COULDNT_CONNECT:
      if (system == ECONNREFUSED) {
        return fail(Errc::kShutdown, "{}: nobody listens", address.text());
      }
      if (system != 0) return fail_errno(static_cast<int>(system), "{}", address.text());
      break;
    case CURLE_COULDNT_RESOLVE_HOST:
      return fail(Errc::kNotFound, "{}: {}", address.text(), curl_easy_strerror(code));
    case CURLE_OPERATION_TIMEDOUT:
      return fail(Errc::kTimedOut, "{}: no answer in time", address.text());
    case CURLE_WRITE_ERROR:
      return fail(Errc::kLimit, "{}: the answer is too large", address.text());
    case CURLE_UNSUPPORTED_PROTOCOL:
      return fail(Errc::kIo, "{} does not answer in HTTP", address.text());
    default:
      break;
  }
  return fail(Errc::kIo, "{}: {}", address.text(), curl_easy_strerror(code));
}

// `form` is null for a GET.
Result<HttpAnswer> exchange(const Address& address, const std::string& path,
                            const std::string* form, std::chrono::milliseconds timeout) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  const Handle handle(ready == CURLE_OK ? curl_easy_init() : nullptr, &curl_easy_cleanup);
  if (handle == nullptr) return fail(Errc::kIo, "libcurl can't be initialised");
  CURL* curl = handle.get();
  std::string authority = "clouddisk";
  if (address.kind == Address::Kind::kUnix) {
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, address.path.c_str());
  } else {
    authority = address.text().substr(std::string_view("tcp:").size());
  }
  HttpAnswer answer;
  curl_easy_setopt(curl, CURLOPT_URL, ("http://" + authority + path).c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
  curl_easy_setopt(curl, CURLOPT_PROXY, "");  // Whatever http_proxy says: this is our own daemon.
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &take);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer.body);
  if (form != nullptr) {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(form->size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, form->c_str());
  }
  if (const CURLcode done = curl_easy_perform(curl); done != CURLE_OK) {
    return from_curl(curl, done, address);
  }
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  answer.status = static_cast<int>(status);
  return answer;
}

}  // namespace

Result<HttpAnswer> http_post(const Address& address, const std::string& path,
                             const std::string& form, std::chrono::milliseconds timeout) {
  return exchange(address, path, &form, timeout);
}

Result<HttpAnswer> http_get(const Address& address, const std::string& path,
                            std::chrono::milliseconds timeout) {
  return exchange(address, path, nullptr, timeout);
}

}  // namespace clouddisk
