import { isFailure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { parseAddress, parseFingerprint, resolveTarget } from "./target.ts";

const hex = "0123456789abcdef".repeat(4);
const file = {
  contexts: {
    home: { address: "https://a:1", caFingerprint: `sha256:${hex}`, token: "cop_home" },
    work: { address: "https://b:2", caFingerprint: `sha256:${hex}`, token: "cop_work" },
  },
  current: "home",
};

const reasonOf = (work: () => unknown): string => {
  try {
    work();
    return "nothing";
  } catch (error) {
    return isFailure(error) ? error.reason : "something else";
  }
};

test("an address may be given without https, and nothing but TLS is spoken", () => {
  expect(parseAddress("db.example.org:7443")).toBe("https://db.example.org:7443");
  expect(parseAddress("https://[::1]:7443/")).toBe("https://[::1]:7443");
  for (const text of ["http://a:1", "https://user@a:1", "https://a:1/path", "a b", ""]) {
    expect(
      reasonOf(() => parseAddress(text)),
      text,
    ).toBe("INVALID_FIELD");
  }
});

test("a fingerprint is read in each way that programs print it", () => {
  const colons = hex.toUpperCase().match(/../g)?.join(":") ?? "";
  for (const text of [hex, `sha256:${hex}`, `SHA256:${hex.toUpperCase()}`, colons, ` ${hex}\n`]) {
    expect(parseFingerprint(text)).toBe(`sha256:${hex}`);
  }
  for (const text of ["", "sha256:12", `sha1:${hex}`])
    expect(reasonOf(() => parseFingerprint(text))).toBe("INVALID_FIELD");
});

test("the flag wins over the environment, and that over the current context", () => {
  expect(resolveTarget(file, {}, undefined).token).toBe("cop_home");
  expect(resolveTarget(file, { COPPICE_CONTEXT: "work" }, undefined).address).toBe("https://b:2");
  expect(resolveTarget(file, { COPPICE_CONTEXT: "work" }, "home").address).toBe("https://a:1");
  expect(resolveTarget(file, { COPPICE_TOKEN: "cop_other\n", COPPICE_ADDRESS: "c:3" }, undefined)).toEqual({
    address: "https://c:3",
    caFingerprint: `sha256:${hex}`,
    token: "cop_other",
  });
});

test("without a profile the environment alone is enough, and what is missing is named", () => {
  const none = { contexts: {}, current: undefined };
  const env = { COPPICE_ADDRESS: "a:1", COPPICE_CA_FINGERPRINT: hex, COPPICE_TOKEN: "cop_x" };
  expect(resolveTarget(none, env, undefined).address).toBe("https://a:1");
  for (const name of Object.keys(env)) {
    expect(
      reasonOf(() => resolveTarget(none, { ...env, [name]: "" }, undefined)),
      name,
    ).toBe("UNAUTHENTICATED");
  }
  expect(reasonOf(() => resolveTarget(file, {}, "toString"))).toBe("INVALID_FIELD");
});
