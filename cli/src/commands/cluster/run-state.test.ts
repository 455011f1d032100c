import { expect, test } from "vitest";
import { describeUnknown, formatRunState } from "./run-state.ts";

test("a server of which nobody knows whether it runs is said to be unknown with the reason, and not to be stopped", () => {
  const running = { running: true, runningUnknown: "", dataDirectory: "/a" };
  const stopped = { running: false, runningUnknown: "", dataDirectory: "/b" };
  const closed = { running: false, runningUnknown: "the agent may not read /c/postmaster.pid", dataDirectory: "/c" };
  expect([running, stopped, closed].map(formatRunState)).toEqual(["running", "stopped", "unknown (see below)"]);
  expect(describeUnknown([running, stopped])).toBe("");
  expect(describeUnknown([running, closed])).toBe("  /c: unknown (the agent may not read /c/postmaster.pid)\n");
});
