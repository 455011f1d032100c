import { expect, test } from "vitest";
import { formatSize, parseSize } from "./size.ts";

test("sizes are read with decimal and binary units", () => {
  expect(parseSize("0")).toBe(0n);
  expect(parseSize("4096")).toBe(4096n);
  expect(parseSize("1.5GB")).toBe(1_500_000_000n);
  expect(parseSize("64 MiB")).toBe(67_108_864n);
  expect(parseSize("2kB")).toBe(2000n);
  expect(parseSize("1.0005kB")).toBe(1000n);
  expect(parseSize("100PB")).toBe(10n ** 17n);
});

test("what is no size is refused", () => {
  for (const text of ["", "GB", "-1", "1,5GB", "1.GB", ".5GB", "1 gb", "1e3", "1GB\n", "1  GB", "1XB", "1kiB"]) {
    expect(() => parseSize(text), text).toThrow(expect.objectContaining({ reason: "INVALID_FIELD" }));
  }
});

test("sizes are written for people", () => {
  const table: [bigint | number, string][] = [
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1 kB"],
    [1_250, "1.3 kB"],
    [9_960, "10 kB"],
    [999_600, "1 MB"],
    [310_000_000, "310 MB"],
    [1_200_000_000n, "1.2 GB"],
    [10n ** 18n, "1000 PB"],
    [-1500, "-1.5 kB"],
  ];
  for (const [bytes, text] of table) expect(formatSize(bytes)).toBe(text);
});
