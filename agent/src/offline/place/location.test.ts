import { expect, test } from "vitest";
import { parseRepositoryUrl } from "./location.ts";

test("a folder is a path or a file URL, whose escapes are resolved", () => {
  for (const text of ["/srv/back ups", "file:///srv/back ups", "file:///srv/back%20ups"]) {
    expect(parseRepositoryUrl(text).kind, text).toMatchObject({ case: "filesystem", value: { path: "/srv/back ups" } });
  }
  expect(parseRepositoryUrl("/srv/100%25").kind.value).toMatchObject({ path: "/srv/100%25" });
});

test("a bucket and a server are written as everywhere", () => {
  expect(parseRepositoryUrl("s3://acme/prod/").kind).toMatchObject({
    case: "s3",
    value: { bucket: "acme", prefix: "prod" },
  });
  expect(parseRepositoryUrl("ssh://me@[::1]:2222/srv").kind).toMatchObject({
    case: "ssh",
    value: { user: "me", host: "::1", port: 2222, path: "/srv" },
  });
});

test("what is no place is refused", () => {
  for (const text of [
    "srv",
    "./srv",
    "db7:/srv",
    "file://db7/srv",
    "file:srv",
    "ftp://h/x",
    "file:///%zz",
    "s3://",
    "",
  ]) {
    expect(() => parseRepositoryUrl(text), text).toThrow(expect.objectContaining({ reason: "INVALID_FIELD" }));
  }
});
