import { expect, test } from "vitest";
import { parseConnection } from "./connection.ts";

test("a server is a socket's folder or a host, with or without a port", () => {
  const shown = (text: string) => {
    const { address, port } = parseConnection(text);
    return [address.case, address.value, port];
  };
  expect(shown("/run/postgresql")).toEqual(["socketDirectory", "/run/postgresql", 0]);
  expect(shown("/run/postgresql:5433")).toEqual(["socketDirectory", "/run/postgresql", 5433]);
  expect(shown("/run/postgresql/.s.PGSQL.5433")).toEqual(["socketDirectory", "/run/postgresql", 5433]);
  expect(shown("db8")).toEqual(["host", "db8", 0]);
  expect(shown("db8:5433")).toEqual(["host", "db8", 5433]);
  expect(shown("::1")).toEqual(["host", "::1", 0]);
  expect(shown("[::1]:5433")).toEqual(["host", "::1", 5433]);
});

test("libpq's keywords are taken, quoted or not", () => {
  expect(parseConnection(String.raw`host=/run/pg port = 5433 user='o\'neill' dbname=x sslmode=require`)).toMatchObject({
    address: { case: "socketDirectory", value: "/run/pg" },
    port: 5433,
    user: "o'neill",
    maintenanceDatabase: "x",
    sslmode: "require",
  });
  expect(parseConnection("service=new", "admin")).toMatchObject({
    service: "new",
    user: "admin",
    address: { case: undefined },
  });
});

test("a password, an unknown keyword and nonsense are refused, and no text that may hold a password is repeated", () => {
  const wrong = ["", "a b", "db8:0", "db8:99999", "postgresql://me:secret@db8/x", "host=db8 target_session_attrs=any"];
  for (const text of [...wrong, "host=db8 'secret", "sslmode=secure", "port=x host=db8"]) {
    expect(() => parseConnection(text), text).toThrow(expect.objectContaining({ reason: "INVALID_FIELD" }));
  }
  for (const text of ["host=db8 password=secret", "host=db8 password='secret", "postgresql://me:secret@db8/x"]) {
    expect(() => parseConnection(text)).toThrow(/^(?!.*secret)/);
  }
});
