import { isFailure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { parseService } from "./service-file.ts";

const file = "pg_service.conf";
const text = `# services
[one]
host=db.example
port=5433
 user = spaces count
connect_timeout=3

[two]
dbname=shop
dbname=later lines do not count
`;

test("a service gives its settings, and another section ends it", () => {
  expect(parseService(text, "one", file)).toEqual({ host: "db.example", port: "5433", user: " spaces count" });
  expect(parseService(text, "two", file)).toEqual({ dbname: "shop" });
  expect(parseService(text, "three", file)).toBeUndefined();
});

test("a setting that cannot be carried out is refused by name and line, never dropped", () => {
  const refused = (line: string) => {
    try {
      parseService(`[s]\n${line}\n`, "s", file);
    } catch (error) {
      return isFailure(error, "CONNECTION_SERVICE_INVALID") ? error.message : error;
    }
    return "accepted";
  };
  expect(refused("channel_binding=require")).toBe(
    "line 2 of pg_service.conf sets channel_binding, which is not supported",
  );
  expect(refused("nonsense")).toBe("line 2 of pg_service.conf is not keyword=value");
});
