import { describe, expect, test } from "vitest";
import { formatEnrolmentToken, parseEnrolmentToken } from "./enrolment-token.ts";
import { isFailure } from "./failure.ts";

const token = {
  addresses: ["https://control.example:7443", "https://[2001:db8::1]:7443"],
  ca: `sha256:${"0a".repeat(32)}`,
  host: "db7",
  secret: "s3cret-part_of~the+token",
};

function encode(value: unknown): string {
  return `cope1.${Buffer.from(JSON.stringify(value)).toString("base64url")}`;
}

describe("an enrolment token", () => {
  test("is read back as it was written, also with a line end", () => {
    expect(parseEnrolmentToken(`${formatEnrolmentToken(token)}\r\n`)).toEqual(token);
  });

  test.each([
    ["", "there is no enrolment token in the input"],
    ["cop_abcdef", "the enrolment token does not begin with cope1."],
    ["cope1.", "the enrolment token is cut off or damaged"],
    ["cope1.!!!!", "the enrolment token is cut off or damaged"],
    [formatEnrolmentToken(token).slice(0, -7), "the enrolment token is cut off or damaged"],
    [`${formatEnrolmentToken(token)} x`, "the enrolment token has white space in it"],
    [`cope1.${"a".repeat(9000)}`, "the enrolment token is longer than 8192 characters"],
    [encode([]), "the enrolment token does not hold an object"],
    [encode({ ...token, more: 1 }), 'the enrolment token has an unknown field "more"'],
    [encode({ ...token, addresses: [] }), "the enrolment token's addresses are not a list like https://host:port"],
    [
      encode({ ...token, addresses: ["http://a:1"] }),
      "the enrolment token's addresses are not a list like https://host:port",
    ],
    [
      encode({ ...token, addresses: ["https://a/b"] }),
      "the enrolment token's addresses are not a list like https://host:port",
    ],
    [
      encode({ ...token, ca: "sha256:00" }),
      "the enrolment token's fingerprint is not sha256: and 64 hexadecimal digits",
    ],
    [encode({ ...token, host: "Db7" }), "the enrolment token names no host"],
    [encode({ ...token, secret: "" }), "the enrolment token holds no secret"],
  ])("is refused with what is wrong with it, and is not repeated: %j", (text, message) => {
    let caught: unknown;
    try {
      parseEnrolmentToken(text);
    } catch (error) {
      caught = error;
    }
    expect(isFailure(caught, "TOKEN_MALFORMED") && caught.message).toBe(message);
    expect(String(caught)).not.toContain(token.secret);
  });
});
