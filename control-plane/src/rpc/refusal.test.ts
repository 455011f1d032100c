import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { readRefusal } from "./refusal.ts";

test("a call that its client has reset, such as one that heard nothing for a minute, is no fault of the program", () => {
  for (const code of ["INTERNAL_ERROR (0x2)", "CANCEL (0x8)"]) {
    const error = new ConnectError(`http/2 stream closed with error code ${code}`, Code.Internal);
    expect(readRefusal(error)).toMatchObject({ reason: "CANCELLED" });
  }
  expect(readRefusal(new ConnectError("broken", Code.Internal))).toMatchObject({ reason: "INTERNAL" });
});
