import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { expect, test } from "vitest";
import { takeLogin } from "./take-login.ts";

type Wish = MessageInitShape<typeof EndpointSchema>;
const host = { case: "host", value: "db9" } as const;
const socket = { case: "socketDirectory", value: "/run/postgresql" } as const;
const take = (told: Wish, main: Wish) =>
  takeLogin(
    create(EndpointSchema, { address: host, ...told }),
    create(EndpointSchema, { address: { case: "host", value: "db7" }, ...main }),
  );
const main = { user: "coppice", maintenanceDatabase: "admin", sslmode: "verify-full", sslrootcert: "/etc/ca.crt" };

test("a password goes with the protection that it had", () => {
  expect(take({}, main)).toMatchObject({ endpoint: { ...main, address: host }, takesPassword: true });
  expect(take({ sslrootcert: "/etc/other.crt" }, main)).toMatchObject({
    endpoint: { sslmode: "verify-full", sslrootcert: "/etc/other.crt" },
    takesPassword: true,
  });
  expect(take({ maintenanceDatabase: "own" }, main).endpoint.maintenanceDatabase).toBe("own");
});

test.each(["disable", "allow", "prefer", "require", "verify-ca"])("nor does it go by the weaker %s", (sslmode) => {
  expect(take({ sslmode }, main)).toMatchObject({
    endpoint: { user: "coppice", sslmode, sslrootcert: "" },
    takesPassword: false,
  });
});

test("roots make of require what checks them", () => {
  const checked = { sslmode: "require", sslrootcert: "/etc/ca.crt" };
  expect(take({ sslmode: "require" }, checked).takesPassword).toBe(false);
  expect(take({ sslmode: "verify-ca" }, checked).takesPassword).toBe(true);
  expect(take(checked, { sslmode: "require" }).takesPassword).toBe(true);
});

test("of another role, and through a socket, no password is taken", () => {
  expect(take({ user: "other" }, main)).toMatchObject({ endpoint: { ...main, user: "other" }, takesPassword: false });
  expect(take({ address: socket }, main)).toMatchObject({
    endpoint: { user: "", maintenanceDatabase: "admin", sslmode: "" },
    takesPassword: false,
  });
  expect(take({ address: socket }, { ...main, address: socket }).takesPassword).toBe(true);
});

test("what a service says is not known: nothing is taken of its role, and no password by less than the most", () => {
  const nothing = { endpoint: { user: "", maintenanceDatabase: "", sslmode: "" }, takesPassword: false };
  expect(take({}, { service: "shop", maintenanceDatabase: "admin" })).toMatchObject(nothing);
  expect(take({ service: "shop" }, main)).toMatchObject(nothing);
  const named = { service: "shop", user: "coppice" };
  expect(take({}, named)).toMatchObject({ endpoint: { user: "coppice" }, takesPassword: false });
  expect(take({ sslmode: "verify-full" }, named).takesPassword).toBe(true);
});
