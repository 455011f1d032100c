import { expect, test } from "vitest";
import { mostWithin } from "./most-within.ts";

test("the greatest value of a range is the one that looking at each would find", () => {
  for (const count of [0, 1, 2, 7, 16, 33]) {
    const values = Array.from({ length: count }, (_, index) => ({
      at: BigInt(index >> 1) * 3n,
      value: BigInt((index * 7919) % 101) - 50n,
    }));
    const most = mostWithin(values);
    for (let from = -1n; from < 52n; from++) {
      for (let to = from - 1n; to < 52n; to += 2n) {
        const within = values.filter(({ at }) => at >= from && at <= to).map(({ value }) => value);
        const greatest = within.reduce<bigint | undefined>(
          (one, other) => (one === undefined || other > one ? other : one),
          undefined,
        );
        expect(most(from, to)).toBe(greatest);
      }
    }
  }
});
