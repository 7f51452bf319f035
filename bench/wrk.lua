-- What wrk asks for: random segments out of a list of paths, whole or a random
-- range of them. Arguments: the list, and for ranges the length of a range and
-- of the segments. Ends with one line of JSON.
local paths, length, size = {}, 0, 0

function init(args)
  for path in io.lines(args[1]) do
    paths[#paths + 1] = path
  end
  length, size = tonumber(args[2] or 0), tonumber(args[3] or 0)
  math.randomseed(tonumber(args[4] or 1))
end

function request()
  local path = paths[math.random(#paths)]
  if length == 0 then
    return wrk.format("GET", path)
  end
  local first = math.random(0, size - length)
  local headers = {}
  for name, value in pairs(wrk.headers) do
    headers[name] = value
  end
  headers["Range"] = string.format("bytes=%d-%d", first, first + length - 1)
  return wrk.format("GET", path, headers)
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"bytes":%d,"micros":%d,"p50_us":%d,"p99_us":%d,"bad_status":%d,"broken":%d}\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
