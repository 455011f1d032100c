import { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { formatFailure } from "./failure.ts";

const plain = (_style: string, text: string) => text;

test("a failure shows its message, the refused fields, what to do next, what is left and what is safe, and never its cause", () => {
  const failure = new Failure("INVALID_FIELD", "the request is wrong", {
    hint: "mend it",
    fields: [
      { field: "jobs", description: "too many", expected: "at most 64", value: "99" },
      { field: "password", description: "too long", expected: "at most 1024 bytes" },
    ],
    cause: new Error("secret"),
  });
  expect(formatFailure(failure, plain, { left: "a staged database", safe: "nothing was written" })).toBe(
    [
      "✗ the request is wrong",
      '  jobs: too many; expected at most 64; got "99"',
      "  password: too long; expected at most 1024 bytes",
      "  next: mend it",
      "  left: a staged database",
      "  safe: nothing was written",
      "",
    ].join("\n"),
  );
});

test("a failure's text cannot move the cursor", () => {
  expect(formatFailure(new Failure("INTERNAL", "a\u001B[1Ab", { hint: "c\nd" }), plain)).toBe(
    "✗ a\\u001b[1Ab\n  next: c\\nd\n",
  );
});
