import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { linkSignals, raceSignal } from "./race.ts";

const listeners = (signal: AbortSignal) => getEventListeners(signal, "abort").length;

test("raceSignal gives the promise's outcome and leaves no listener behind", async () => {
  const { signal } = new AbortController();
  const error = new Error("broken");
  expect(await raceSignal(Promise.resolve(7), signal)).toBe(7);
  await expect(raceSignal(Promise.reject(error), signal)).rejects.toBe(error);
  expect(listeners(signal)).toBe(0);
});

test("raceSignal rejects with the signal's reason while the promise hangs", async () => {
  const controller = new AbortController();
  const reason = new Error("stop");
  const racing = raceSignal(new Promise(() => {}), controller.signal);
  controller.abort(reason);
  await expect(racing).rejects.toBe(reason);
  expect(listeners(controller.signal)).toBe(0);
});

test("an aborted signal wins over a promise that is already fulfilled", async () => {
  await expect(raceSignal(Promise.resolve(1), AbortSignal.abort("late"))).rejects.toBe("late");
});

test("a linked controller follows whichever signal is aborted first", () => {
  const [first, second] = [new AbortController(), new AbortController()];
  using linked = linkSignals(first.signal, second.signal);
  second.abort("second");
  first.abort("first");
  expect(linked.signal.reason).toBe("second");
  expect(listeners(first.signal)).toBe(0);
});

test("a linked controller is aborted at once by a signal that already is", () => {
  using linked = linkSignals(new AbortController().signal, AbortSignal.abort("gone"));
  expect(linked.signal.reason).toBe("gone");
});

test("a disposed link no longer follows, and its own abort reaches nobody", () => {
  const parent = new AbortController();
  {
    using linked = linkSignals(parent.signal);
    linked.abort("own");
    expect(parent.signal.aborted).toBe(false);
  }
  const late = linkSignals(parent.signal);
  late[Symbol.dispose]();
  parent.abort();
  expect(late.signal.aborted).toBe(false);
  expect(listeners(parent.signal)).toBe(0);
});
