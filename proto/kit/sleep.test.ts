import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { sleep } from "./sleep.ts";

test("sleep ends after its time and leaves no listener behind", async () => {
  const { signal } = new AbortController();
  const begun = performance.now();
  await sleep(20, signal);
  expect(performance.now() - begun).toBeGreaterThan(15);
  expect(getEventListeners(signal, "abort")).toHaveLength(0);
});

test("an abort ends the sleep with the signal's own reason", async () => {
  const controller = new AbortController();
  const reason = new Error("shutting down");
  const sleeping = sleep(60_000, controller.signal);
  controller.abort(reason);
  await expect(sleeping).rejects.toBe(reason);
  await expect(sleep(60_000, controller.signal)).rejects.toBe(reason);
});
