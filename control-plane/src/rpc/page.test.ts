import { create } from "@bufbuild/protobuf";
import { type PageRequest, PageRequestSchema } from "@coppice/proto/gen/coppice/control/v1/page";
import { expect, test } from "vitest";
import { cutPage, parsePage } from "./page.ts";

function request(pageSize: number, pageToken = ""): PageRequest {
  return create(PageRequestSchema, { pageSize, pageToken });
}

test("a list is read page by page until the last one, which has no token", () => {
  const names = ["a", "b", "c", "d", "e"];
  const seen: string[][] = [];
  let token = "";
  do {
    const page = parsePage(request(2, token), 1);
    const [after = ""] = page.after ?? [];
    const read = names.filter((name) => name > after).slice(0, page.size + 1);
    const { items, nextPageToken } = cutPage(read, page, (name) => [name]);
    seen.push([...items]);
    token = nextPageToken;
  } while (token !== "");
  expect(seen).toEqual([["a", "b"], ["c", "d"], ["e"]]);
});

test("no size means a hundred", () => {
  expect(parsePage(undefined, 1)).toEqual({ size: 100, after: undefined });
});

test("a token that was not made for the list is refused as a field", () => {
  const strange = [
    "x",
    "!!",
    "bnVsbA",
    "WzFd",
    Buffer.from('["a","b"]').toString("base64url"),
    Buffer.from('["\\u0000"]').toString("base64url"),
  ];
  for (const token of strange) {
    expect(() => parsePage(request(0, token), 1), token).toThrow("page.page_token");
  }
});
