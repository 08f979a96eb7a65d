-- Health of a MigrationPlan of cutover.dev, for Argo CD. It has neither the string nor the math library.
--
--   Healthy      under control at its weight, which may stay for days; or completed
--   Suspended    ready for more, and waits for people or for the calendar
--   Progressing  not yet taken over, or on the way back to Heroku
--   Degraded     somebody has to look at it now, or it was rolled back

-- Reasons of the condition Held, see docs/holds.md. What is in neither list comes and goes by itself.
local waits = {
  Suspended = true, AwaitingApproval = true, OutsideWindow = true, Frozen = true, Ceiling = true,
  AwaitingDecision = true, BaselineIncomplete = true, LegsDiffer = true,
}
local alarms = {
  InvalidSpec = true, Breach = true, StepTimeout = true, AnswersDiffer = true, SessionsNotShared = true,
  QueryError = true, Ambiguous = true, TakeoverDiffers = true,
  PrometheusUnavailable = true, BoundExceeded = true, ShareNotObserved = true, RouteNotWritten = true,
  BothLegsUnhealthy = true, HarmUnconfirmed = true, EksProbesFail = true, HerokuCannotTakeBack = true,
}

local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "waiting for the operator to look at this generation" }
end

local is, reason = {}, ""
for _, condition in ipairs(status.conditions or {}) do
  is[condition.type] = condition.status == "True"
  if condition.type == "Held" and condition.status == "True" then
    reason = condition.reason
  end
end

local hs = { message = (status.phase or "") }
if status.weight ~= nil then
  hs.message = hs.message .. ", " .. status.weight .. " % on EKS"
end
if reason ~= "" then
  hs.message = hs.message .. ", " .. reason
end
if status.message ~= nil and status.message ~= "" then
  hs.message = hs.message .. ": " .. status.message
end

if is.Stalled or is.RolledBack or alarms[reason] then
  hs.status = "Degraded"
elseif is.Reconciling then
  hs.status = "Progressing"
elseif waits[reason] then
  hs.status = "Suspended"
elseif is.Ready then
  hs.status = "Healthy"
else
  hs.status = "Progressing"
end
return hs
