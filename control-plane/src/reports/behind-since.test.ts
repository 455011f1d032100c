import { expect, test } from "vitest";
import { behindSince } from "./behind-since.ts";

const at = (minute: number) => new Date(minute * 60_000);
const told = (minute: number, storedLsn: bigint | null, serverLsn = 0x5000200n) => ({
  segmentBytes: 16n << 20n,
  storedLsn,
  serverLsn,
  serverTime: at(minute),
});
const after = (behindTime: Date | null, ...of: Parameters<typeof told>) =>
  behindSince({ behindTime }, told(...of), false);

test("an archive is behind from the first report that says so on, and no more once one says that it is not", () => {
  expect(after(null, 10, 0x5000000n)).toEqual(at(10));
  expect(after(at(10), 17, 0x5000100n)).toEqual(at(10));
  expect(after(at(10), 18, 0x5000200n)).toBeNull();
  // The header of a segment that is empty is nothing to store.
  expect(after(at(10), 18, 0x5000000n, 0x5000028n)).toBeNull();
});

test("what is stored and not told yet keeps the time, and a clock that was set back moves it", () => {
  expect(after(null, 10, null)).toEqual(at(10));
  expect(after(at(10), 17, null)).toEqual(at(10));
  expect(after(at(10), 4, 0x5000000n)).toEqual(at(4));
  const silent = { ...told(20, null), serverTime: null };
  expect(behindSince({ behindTime: at(10) }, silent, false)).toEqual(at(10));
});

test("an archive in another place or on another timeline begins anew", () => {
  expect(behindSince({ behindTime: at(10) }, told(40, 0x5000000n), true)).toEqual(at(40));
  expect(behindSince({ behindTime: at(10) }, { ...told(40, null), serverTime: null }, true)).toBeNull();
});
