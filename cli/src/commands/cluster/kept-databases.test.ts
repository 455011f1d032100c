import { expect, test } from "vitest";
import { describeKept } from "./kept-databases.ts";

test("databases that restores have replaced are counted with their size", () => {
  expect(describeKept([{ name: "shop", sizeBytes: 5n }, { name: "the_day_before_2026" }])).toBe("");
  const kept = [
    { name: "shop_before_20261120025507", sizeBytes: 1_500_000_000n },
    { name: "shop" },
    { name: "x_before_20261121025507", sizeBytes: 500_000_000n },
  ];
  expect(describeKept(kept.slice(0, 2))).toBe(
    "1 database that a restore has replaced, 1.5 GB: drop what nobody needs: shop_before_20261120025507",
  );
  expect(describeKept(kept)).toMatch(/^2 databases that restores have replaced, 2 GB: .*, x_before_20261121025507$/);
});
