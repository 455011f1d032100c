import type { Command } from "commander";
import { fail } from "@coppice/proto/kit/failure";
import { addCommand, addGroup, type Execute } from "../command.ts";
import { formatDetails } from "../output/details.ts";
import { formatTable } from "../output/table.ts";
import { type Profile, type ProfileFile, readProfileFile, writeProfileFile } from "../profile/profile-file.ts";
import type { Session } from "../session.ts";

/** `coppice context …` */
export function addContextCommands(program: Command, execute: Execute): void {
  const group = addGroup(program, "context", "the control planes that you have logged in to");
  addCommand(group, execute, {
    name: "list",
    summary: "list the contexts",
    examples: ["coppice context list"],
    run: list,
  });
  addCommand(group, execute, {
    name: "use",
    summary: "make a context the current one",
    arguments: [["<name>", "name of the context"]],
    examples: ["coppice context use production"],
    run: use,
  });
  addCommand(group, execute, {
    name: "get",
    summary: "show a context, the current one if none is named; never its token",
    arguments: [["[name]", "name of the context"]],
    examples: ["coppice context get", "coppice context get production -o json"],
    run: get,
  });
  addCommand(group, execute, {
    name: "delete",
    summary: "forget a context with its token",
    arguments: [["<name>", "name of the context"]],
    examples: ["coppice context delete staging"],
    run: remove,
  });
}

/** What may be shown of a context. */
const shown = (name: string, { address, caFingerprint }: Profile, { current }: ProfileFile) => ({
  name,
  address,
  caFingerprint,
  current: name === current,
});

function find(file: ProfileFile, name: string | undefined): [name: string, profile: Profile] {
  const profile = name !== undefined && Object.hasOwn(file.contexts, name) ? file.contexts[name] : undefined;
  if (name !== undefined && profile) return [name, profile];
  return fail("CONTEXT_NOT_FOUND", name === undefined ? "no context is current" : `there is no context ${name}`);
}

async function list(session: Session): Promise<void> {
  const file = await readProfileFile(session.folder);
  const contexts = Object.entries(file.contexts).map(([name, profile]) => shown(name, profile, file));
  await session.answer({
    json: () => contexts,
    table: () =>
      contexts.length === 0
        ? "no contexts\n  next: coppice login HOST:PORT\n"
        : formatTable(
            [{ title: "" }, { title: "NAME", cut: true }, { title: "ADDRESS", cut: true }],
            contexts.map(({ name, address, current }) => [current ? "*" : "", name, address]),
          ),
    names: () => contexts.map(({ name }) => name),
  });
}

async function use(session: Session, _options: object, name: string): Promise<void> {
  const file = await readProfileFile(session.folder);
  const [, profile] = find(file, name);
  await writeProfileFile(session.folder, { ...file, current: name });
  await session.answer({
    json: () => shown(name, profile, { ...file, current: name }),
    table: () => session.success(`context ${name} (${profile.address}) is the current one`, { next: "coppice status" }),
    names: () => [name],
  });
}

async function get(session: Session, _options: object, wanted?: string): Promise<void> {
  const file = await readProfileFile(session.folder);
  const [name, profile] = find(file, wanted ?? session.terminal.env.COPPICE_CONTEXT ?? file.current);
  const view = shown(name, profile, file);
  await session.answer({
    json: () => view,
    table: () =>
      formatDetails([
        ["name", name],
        ["address", profile.address],
        ["authority", profile.caFingerprint],
        ["current", view.current ? "yes" : "no"],
      ]),
    names: () => [name],
  });
}

async function remove(session: Session, _options: object, name: string): Promise<void> {
  const file = await readProfileFile(session.folder);
  const [, profile] = find(file, name);
  const contexts = Object.fromEntries(Object.entries(file.contexts).filter(([other]) => other !== name));
  const current = file.current === name ? undefined : file.current;
  await writeProfileFile(session.folder, { contexts, current });
  await session.answer({
    json: () => shown(name, profile, file),
    table: () =>
      session.success(`context ${name} is forgotten; its token is still good at ${profile.address}`, {
        next: current === undefined ? "coppice login HOST:PORT" : undefined,
      }),
    names: () => [name],
  });
}
