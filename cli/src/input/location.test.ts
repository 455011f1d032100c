import { expect, test } from "vitest";
import { endpointFromOptions, formatEndpoint } from "./endpoint.ts";
import { formatLocation, parseLocation } from "./location.ts";

test("a folder is named with its home host", () => {
  const { homeHost, location } = parseLocation("db7:/srv/back ups");
  expect(homeHost).toBe("db7");
  expect(location.kind).toMatchObject({ case: "filesystem", value: { path: "/srv/back ups" } });
  expect(formatLocation("db7", location)).toBe("db7:/srv/back ups");
});

test("a bucket and a server come out as they were written", () => {
  for (const text of [
    "s3://acme-backups",
    "s3://acme-backups/prod/eu 1",
    "ssh://backup@vault/srv",
    "ssh://backup@[::1]:2222/srv/b",
  ]) {
    const { homeHost, location } = parseLocation(text);
    expect(homeHost).toBe("");
    expect(formatLocation("", location)).toBe(text);
  }
  expect(formatLocation("", parseLocation("s3://acme-backups/prod/").location)).toBe("s3://acme-backups/prod");
});

test("a bare path is refused with the way to write it", () => {
  expect(() => parseLocation("/srv/backups")).toThrow(
    expect.objectContaining({ reason: "INVALID_FIELD", hint: "write HOST:/path, for example db7:/srv/backups" }),
  );
  const wrong = ["backups", "db7:backups", "s3://", "s3://A/b", "ssh://vault/srv", "ssh://u@h:99999/x", "ssh://u@h"];
  for (const text of [...wrong, "ftp://h/x", "db7://x", ""]) {
    expect(() => parseLocation(text), text).toThrow(expect.objectContaining({ reason: "INVALID_FIELD" }));
  }
});

test("an endpoint is a socket's folder or a host, with or without a port", () => {
  const shown = (endpoint: string, port?: number) =>
    formatEndpoint(endpointFromOptions({ endpoint, ...(port !== undefined && { port }) }));
  expect(shown("/run/postgresql")).toBe("/run/postgresql:5432");
  expect(shown("/run/postgresql", 5433)).toBe("/run/postgresql:5433");
  expect(shown("/run/postgresql:5433")).toBe("/run/postgresql:5433");
  expect(shown("db.example.org:6432")).toBe("db.example.org:6432");
  expect(shown("::1")).toBe("[::1]:5432");
  expect(shown("[::1]:6432")).toBe("[::1]:6432");
  expect(endpointFromOptions({})).toBeUndefined();
  for (const text of ["postgres://u:p@h/db", "user@host", "host:0", "host:99999", "/run:0", "a b"]) {
    expect(() => shown(text), text).toThrow(expect.objectContaining({ reason: "INVALID_FIELD" }));
  }
});

test("flags change only what they name of an endpoint that is known", () => {
  const known = endpointFromOptions({ endpoint: "/run/postgresql", user: "backup", sslmode: "require" });
  const changed = endpointFromOptions({ port: 5433 }, known);
  expect(changed).toMatchObject({
    address: { case: "socketDirectory", value: "/run/postgresql" },
    port: 5433,
    user: "backup",
    sslmode: "require",
  });
  expect(known?.port).toBe(0);
});
