import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { openHearing } from "./hearing.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
afterEach(() => void vi.useRealTimers());
const later = (seconds: number) => void vi.advanceTimersByTime(seconds * 1000);

test("what a server counts as failed soon after it was answered is what was refused, and what it counts later is not", async () => {
  const hearing = openHearing();
  hearing.count(7n);
  expect(hearing.heard()).toEqual({ quietMs: 0, isAnswering: false, failedCount: undefined });
  later(10);
  hearing.count(8n);
  later(10);
  hearing.count(11n);
  expect(hearing.heard()).toEqual({ quietMs: 20_000, isAnswering: false, failedCount: 8n });
  const answer = Promise.withResolvers<void>();
  const answered = hearing.answer(() => answer.promise);
  expect(hearing.heard().isAnswering).toBe(true);
  answer.resolve();
  await answered;
  later(1);
  hearing.count(12n);
  expect(hearing.heard()).toEqual({ quietMs: 1000, isAnswering: false, failedCount: undefined });
  later(9);
  hearing.count(12n);
  later(10);
  hearing.count(13n);
  expect(hearing.heard()).toEqual({ quietMs: 20_000, isAnswering: false, failedCount: 12n });
  // Statistics that were reset.
  hearing.count(1n);
  expect(hearing.heard().failedCount).toBe(1n);
});
