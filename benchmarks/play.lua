-- wrk: play a list of requests in a given order. Arguments: the requests' file, the headers' file, the order's file or "-" for in turn, where to begin.
-- A line of the requests is a path, and after a tab a further header. The order is a number a line, from 0.
local requests, order, at = {}, nil, 0

local function text(name)
  local file = assert(io.open(name, "rb"))
  local all = file:read("*a")
  file:close()
  return all
end

function init(args)
  local headers = "Host: " .. wrk.headers["Host"] .. "\r\n" .. text(args[2])
  for line in io.lines(args[1]) do
    local path, further = line:match("^([^\t]*)\t?(.*)$")
    requests[#requests + 1] = "GET " .. path .. " HTTP/1.1\r\n" .. headers .. (further ~= "" and further .. "\r\n" or "") .. "\r\n"
  end
  if args[3] ~= "-" then
    order = {}
    for line in io.lines(args[3]) do order[#order + 1] = tonumber(line) end
  end
  at = tonumber(args[4])
end

function request()
  at = at + 1
  local which = order and order[(at - 1) % #order + 1] or at - 1
  return requests[which % #requests + 1]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\n{"requests":%d,"seconds":%.6f,"bytes":%d,"failed":%d,"p50":%.1f,"p99":%.1f}\n', summary.requests,
    summary.duration / 1e6, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
