import { fail } from "@coppice/proto/kit/failure";

/** Checks a key against the contract of Storage and gives its names. Fails with OBJECT_KEY_REFUSED. */
export function parseObjectKey(key: string): string[] {
  const names = key.split("/");
  const problem =
    Buffer.byteLength(key) > 1024
      ? "is longer than 1,024 bytes"
      : names.map(problemOfName).find((found) => found !== undefined);
  if (problem) fail("OBJECT_KEY_REFUSED", `key ${JSON.stringify(key.slice(0, 200))} ${problem}`);
  return names;
}

function problemOfName(name: string): string | undefined {
  if (name === "") return "holds an empty name";
  if (name === "." || name === "..") return `holds the name ${name}`;
  if (name.includes("\0")) return "holds a NUL";
  // It could not be told from another one that is not well-formed either.
  if (!name.isWellFormed()) return "is not well-formed Unicode";
  if (Buffer.byteLength(name) > 255) return "holds a name longer than 255 bytes";
  return undefined;
}
