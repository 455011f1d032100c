import { expect, test } from "vitest";
import { printable } from "./printable.ts";
import { shellWord } from "./shell-word.ts";
import { cutText, textWidth } from "./text-width.ts";

test("nothing that a terminal obeys is left in printable text", () => {
  expect(printable("a\nb\tc\u001B[2J\u009B1m\u202Ed")).toBe("a\\nb\\tc\\u001b[2J\\u009b1m\\u202ed");
  expect(printable("naïve 🐘 %s")).toBe("naïve 🐘 %s");
});

test("emoji and East Asian characters take two columns, joined ones together", () => {
  expect(textWidth("abc")).toBe(3);
  expect(textWidth("🐘")).toBe(2);
  expect(textWidth("👩‍👩‍👧")).toBe(2);
  expect(textWidth("漢字")).toBe(4);
  expect(cutText("漢字abc", 5)).toBe("漢字…");
  expect(cutText("abc", 3)).toBe("abc");
});

test("a word for the shell is quoted where the shell would read something else", () => {
  expect(shellWord("orders-copy")).toBe("orders-copy");
  expect(shellWord("it's $HOME")).toBe(`'it'\\''s $HOME'`);
  expect(shellWord("-odd")).toBe("'-odd'");
  expect(shellWord("")).toBe("''");
});
