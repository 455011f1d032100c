import { expect, test } from "vitest";
import { includesRole, methodRole, servedServices } from "./method-roles.ts";

test("every served method has a role, and none that changes something is open to viewers", () => {
  const methods = Object.values(servedServices).flatMap((service) => service.methods);
  for (const method of methods) expect(methodRole(method), method.name).toBeDefined();
  const changing = methods.filter(({ name }) => /^(Create|Delete|Update|Revoke|Cancel|Verify|Check|Plan)/.test(name));
  expect(changing.length).toBeGreaterThan(10);
  for (const method of changing) expect(["OPERATOR", "ADMIN"], method.name).toContain(methodRole(method));
});

test("each role includes those before it, and no other", () => {
  const roles = ["VIEWER", "OPERATOR", "ADMIN"] as const;
  const allowed = roles.flatMap((has) =>
    roles.filter((needs) => includesRole(has, needs)).map((needs) => `${has}>${needs}`),
  );
  expect(allowed).toEqual([
    "VIEWER>VIEWER",
    "OPERATOR>VIEWER",
    "OPERATOR>OPERATOR",
    "ADMIN>VIEWER",
    "ADMIN>OPERATOR",
    "ADMIN>ADMIN",
  ]);
});
