import { reasons } from "@coppice/proto/kit/reasons";
import type { Command, Option } from "commander";
import { expect, test } from "vitest";
import { formatBashCompletion } from "./completion/bash.ts";
import { describeCommands, stepsOf, walkCommands } from "./completion/describe.ts";
import { formatFishCompletion } from "./completion/fish.ts";
import { formatZshCompletion } from "./completion/zsh.ts";
import { createCommandTree } from "./tree.ts";

const silent = { out: () => {}, err: () => {} };
const tree = () => createCommandTree(() => Promise.resolve(), silent, "1.2.3");

function leaves(command: Command, path: string): { path: string; command: Command }[] {
  if (command.commands.length === 0) return [{ path, command }];
  return command.commands.flatMap((child) => leaves(child, `${path} ${child.name()}`));
}

/** Values for flags that do not take any text: what is allowed, or of the kind that the flag names. */
function valueFor({ argChoices, flags }: Option): string {
  const kind = /<(.+)>/.exec(flags)?.[1] ?? "";
  return (
    argChoices?.[0] ?? { time: "1m", age: "48h", duration: "2d", size: "64KiB", "host:/path": "db7:/x" }[kind] ?? "2"
  );
}

/** The words of a command line as a shell would part them, without what redirects or follows a pipe. */
const wordsOf = (line: string) =>
  line
    .replace(/ [<>|].*$/, "")
    .split(" ")
    .slice(1);

function helpOf(command: Command): string {
  let text = "";
  command.configureOutput({ writeOut: (part) => (text += part) });
  command.outputHelp();
  return text;
}

test("every command's help has examples, and each of them is accepted", async () => {
  for (const { path, command } of leaves(tree(), "coppice")) {
    const examples =
      helpOf(command)
        .split(/\nExamples?:\n/)[1]
        ?.trim()
        .split("\n") ?? [];
    expect(examples, path).not.toEqual([]);
    for (const example of examples) {
      expect(example.trim().startsWith(path), example).toBe(true);
      await expect(tree().parseAsync(wordsOf(example.trim()), { from: "user" }), example).resolves.toBeDefined();
    }
  }
});

test("every command takes -o and --context", () => {
  for (const { path, command } of leaves(tree(), "coppice")) {
    const flags = command.options.map(({ long }) => long);
    expect(flags, path).toEqual(expect.arrayContaining(["--output", "--context"]));
  }
});

test("every command that a failure's own hint names is there", () => {
  const paths = walkCommands(describeCommands(tree())).map(({ path }) => path);
  for (const [reason, { hint }] of Object.entries(reasons)) {
    for (const [, named = ""] of hint.matchAll(/`(coppice [a-z -]+[a-z])/g)) {
      expect(paths, `${reason}: ${named}`).toContain(named);
    }
  }
});

test("a wrong command is answered with the one that was probably meant", async () => {
  await expect(tree().parseAsync(["stauts"], { from: "user" })).rejects.toThrow("Did you mean status?");
});

test("every flag with a value that is not said to be repeated is refused when it is given twice", async () => {
  for (const { path, command } of leaves(tree(), "coppice")) {
    for (const option of command.options) {
      const { long, required, description } = option;
      if (!required || !long || description.includes("may be repeated")) continue;
      const words = [...path.split(" ").slice(1), ...[1, 2].flatMap(() => [long, valueFor(option)])];
      await expect(tree().parseAsync(words, { from: "user" }), `${path} ${long}`).rejects.toThrow(
        `${long} is given more than once`,
      );
    }
  }
});

test("what may be repeated, and what takes no value, may be given again", async () => {
  const words = "restore create shop --role a --yes --role b --yes --role c".split(" ");
  await expect(tree().parseAsync(words, { from: "user" })).resolves.toBeDefined();
});

test.each([
  ["--as", ["restore", "create", "shop", "--as", ""]],
  ["--role", ["restore", "create", "shop", "--role", "a", "--role="]],
  ["<cluster>", ["backup", "create", ""]],
])("an empty %s is refused and named", async (what, words) => {
  await expect(tree().parseAsync(words, { from: "user" })).rejects.toThrow(`${what} is given and empty`);
});

test("a name that begins with a dash reaches the command whole", async () => {
  let seen: unknown;
  const program = createCommandTree(() => Promise.resolve(), silent, "1.2.3");
  const create = program.commands.find((each) => each.name() === "backup")?.commands[0];
  create?.hook("preAction", (command) => {
    seen = command.opts().database;
  });
  await program.parseAsync(["backup", "create", "shop", "--database", "-odd", "--database=--x", "-o", "json"], {
    from: "user",
  });
  expect(seen).toEqual(["-odd", "--x"]);
});

test("the completions of each shell know every command and every flag", () => {
  const root = describeCommands(tree());
  const scripts = [formatBashCompletion(root), formatZshCompletion(root), formatFishCompletion(root)];
  const nodes = walkCommands(root);
  expect(nodes.length).toBeGreaterThan(40);
  expect(stepsOf(root)).toContainEqual({ typed: "coppice repo", path: "coppice repository" });
  for (const script of scripts) {
    for (const { path, node } of nodes) {
      expect(script).toContain(path);
      for (const { flags } of node.options) {
        for (const flag of flags) expect(script).toContain(flag.replace(/^--?/, ""));
      }
    }
  }
});
