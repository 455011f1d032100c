import { create, type DescField, type DescMessage, type Message, ScalarType } from "@bufbuild/protobuf";
import { reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";

/** Gives a whole number from 0 to below the bound; the same ones in each run, so that what fails fails again. */
export type Random = (below: number) => number;

export function openRandom(seed: string): Random {
  let state = Buffer.from(seed).reduce((sum, byte) => (Math.imul(sum, 31) + byte) >>> 0, 7);
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

export function pick<Item>(random: Random, items: readonly [Item, ...Item[]]): Item {
  return items[random(items.length)] ?? items[0];
}

/** Texts that some program somewhere has broken at. */
export const wildTexts = [
  "",
  " ",
  "\0",
  "a\0b",
  "\u0001\u0002\u001b[31mred\u0007\r\n",
  "'; drop table host; --",
  '"; select pg_sleep(9); --',
  "../../../../etc/passwd",
  "%s%n%x%%",
  "$(reboot) `reboot` ${jndi:ldap://x}",
  "-rf",
  "\u202Eright to left\u202C\uFEFF",
  "🦉".repeat(100),
  "e\u0301".repeat(40),
  ",".repeat(10_000),
  "x".repeat(20_000),
  "__proto__",
  "constructor",
  "NaN",
  "WyJhIl0",
  "[]",
] as const;

/** What a reference or an id could be: some exist, some do not. */
const likelyTexts = [
  "db7",
  "main",
  "demo",
  "shop",
  "nobody",
  "hst_01jd3kz9m8f7s6r5q4p3n2b1a0",
  "cls_01jd3kz9m8f7s6r5q4p3n2b1a0",
  "rep_01jd3kz9m8f7s6r5q4p3n2b1a0",
  "bkp_01jd3kz9m8f7s6r5q4p3n2b1a0",
  "op_01jd3kz9m8f7s6r5q4p3n2b1a0",
  "/srv/backups",
  "v1",
] as const;

const prefixes: Readonly<Record<string, string>> = { backup: "bkp", operation: "op" };

/** How a message is made up. */
export interface Taste {
  /** Of ten values, how many are likely ones; the others are wild. */
  readonly likely: number;
  readonly random: Random;
}

/** A message of any type, its fields set by chance. */
export function makeMessage(schema: DescMessage, taste: Taste, depth = 0): Message {
  const message = create(schema);
  const fields = reflect(schema, message);
  for (const field of schema.fields) {
    if (depth < 5 && taste.random(10) < 7) setField(fields, field, taste, depth);
  }
  return message;
}

function setField(message: ReflectMessage, field: DescField, taste: Taste, depth: number): void {
  const { random } = taste;
  const text = () => textFor(field, taste);
  switch (field.fieldKind) {
    case "scalar":
      message.set(field, scalarFor(field.scalar, text, taste));
      return;
    case "enum":
      message.set(field, isLikely(taste) ? 1 + random(2) : pick(random, [0, 99, -1]));
      return;
    case "message":
      message.set(field, reflect(field.message, makeMessage(field.message, taste, depth + 1)));
      return;
    case "list":
      if (field.listKind !== "scalar") return;
      for (let left = random(4); left > 0; left--) message.get(field).add(scalarFor(field.scalar, text, taste));
      return;
    case "map":
      if (field.mapKind !== "scalar") return;
      for (let left = random(4); left > 0; left--) message.get(field).set(text(), text());
  }
}

function isLikely({ random, likely }: Taste): boolean {
  return random(10) < likely;
}

function textFor({ name }: DescField, taste: Taste): string {
  if (!isLikely(taste)) return pick(taste.random, wildTexts);
  const prefix = prefixes[name];
  return prefix === undefined ? pick(taste.random, likelyTexts) : `${prefix}_01jd3kz9m8f7s6r5q4p3n2b1a0`;
}

function scalarFor(type: ScalarType, text: () => string, taste: Taste) {
  const { random } = taste;
  const number = isLikely(taste) ? random(60) : pick(random, [0, 1, 2 ** 31 - 1, 65_536]);
  switch (type) {
    case ScalarType.STRING:
      return text();
    case ScalarType.BYTES:
      return Uint8Array.from({ length: 3 }, () => random(256));
    case ScalarType.BOOL:
      return random(2) === 0;
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return isLikely(taste) ? BigInt(random(60)) : pick(random, [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)]);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return isLikely(taste) ? BigInt(random(60)) : 2n ** 64n - 1n;
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return number;
    default:
      return isLikely(taste) ? number : pick(random, [-1, -(2 ** 31), number]);
  }
}

/** Nested lists, which a parser that calls itself has to survive. */
const deep = `${"[".repeat(5000)}${"]".repeat(5000)}`;
const deepObject = `${'{"a":'.repeat(5000)}1${"}".repeat(5000)}`;

/** Values of JSON that are of the wrong type for almost every field. */
export const wrongValues: readonly string[] = [
  "1",
  "-1",
  "1e400",
  "0.5",
  "true",
  "null",
  "[]",
  '[["a"]]',
  "{}",
  '{"a":{"b":[1]}}',
  '"\\ud800"',
  '"\\u0000"',
  '"🦉"',
  deep,
  deepObject,
];

/** Bodies that are no JSON object at all. */
export const wrongBodies: readonly string[] = [
  "",
  " ",
  "{",
  "null",
  "[]",
  '"text"',
  "1",
  "<xml/>",
  '{"a":1,}',
  '{"noSuchField":1}',
  '{"__proto__":{"x":1}}',
  "\uFEFF{}",
  deep,
];
