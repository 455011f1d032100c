import { execFile } from "node:child_process";
import { access, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import manifest from "../../package.json" with { type: "json" };

const { version } = manifest;
const root = join(import.meta.dirname, "../..");
const programs = ["coppice", "coppice-control", "coppice-agent"];
const units = ["coppice-control.service", "coppice-agent.service"];
// A bare environment: the package must need nothing of the one that runs the tests, its Node least of all.
const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C.UTF-8", DEBIAN_FRONTEND: "noninteractive" };

async function run(program: string, ...args: string[]): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(program, args, { env, cwd: "/", maxBuffer: 16 * 1024 * 1024 });
  return stdout + stderr;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function rights(path: string): Promise<string> {
  return (await run("stat", "--format=%U:%G %a", path)).trim();
}

let folder: string;
let deb: string;
let tree: string;

beforeAll(async () => {
  const build = await readdir(join(root, "build")).catch(() => []);
  const made = build.find((name) => name.startsWith(`coppice_${version}_`) && name.endsWith(".deb"));
  if (!made) throw new Error("there is no package of this version in build/: run npm run build && sh deploy/package");
  deb = join(root, "build", made);
  folder = await mkdtemp(join(tmpdir(), "coppice-package-"));
  tree = join(folder, "unpacked");
  await run("dpkg-deb", "-x", deb, tree);
});

afterAll(async () => {
  if (folder) await rm(folder, { recursive: true, force: true });
});

describe("the package, unpacked into a folder", () => {
  test.each(programs)("runs %s by its own Node, from where it lies and through a link", async (program) => {
    expect(await run(join(tree, "usr/bin", program), "--version")).toBe(`${program} ${version}\n`);
    const link = join(folder, `link-to-${program}`);
    await run("ln", "-s", join(tree, "usr/bin", program), link);
    expect(await run(link, "--version")).toBe(`${program} ${version}\n`);
  });

  test("holds the embedded PostgreSQL with all its libraries, the migrations and no dangling link", async () => {
    const library = join(tree, "usr/lib/coppice");
    expect(await run(join(library, "postgresql/bin/postgres"), "--version")).toMatch(/^postgres \(PostgreSQL\) 18\./);
    expect(await readdir(join(library, "migrations"))).not.toEqual([]);
    expect(await run("find", tree, "-xtype", "l")).toBe("");
  });

  test("is the same in the tar archive, whose programs run too", async () => {
    const archive = (await readdir(join(root, "build"))).find((name) => name.endsWith(".tar.zst"));
    const place = join(folder, "archive");
    await mkdir(place);
    await run("tar", "-x", "-C", place, "--strip-components=1", "-f", join(root, "build", archive ?? ""));
    for (const program of programs) {
      expect(await run(join(place, "bin", program), "--version")).toBe(`${program} ${version}\n`);
    }
  });

  test("carries units that systemd accepts", async () => {
    const place = join(folder, "units");
    await mkdir(place);
    for (const unit of units) {
      const text = await readFile(join(tree, "usr/lib/systemd/system", unit), "utf8");
      // The check wants each program to exist, and these are not installed here.
      await writeFile(join(place, unit), text.replace("ExecStart=/usr", `ExecStart=${tree}/usr`));
    }
    expect(await run("systemd-analyze", "verify", "--man=no", ...units.map((unit) => join(place, unit)))).toBe("");
  });

  test("gives the agent no mount namespace of its own", async () => {
    const text = await readFile(join(tree, "usr/lib/systemd/system/coppice-agent.service"), "utf8");
    const settings = text.split("\n").filter((line) => /^[A-Z]\w+=/.test(line));
    const isolating =
      /^(Private(?!Users)\w+|Protect\w+|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec)Paths|BindPaths|BindReadOnlyPaths|TemporaryFileSystem|MountFlags|MountAPIVFS|RootDirectory|RootImage|DynamicUser)=/;
    expect(settings.filter((line) => isolating.test(line))).toEqual([]);
    expect(settings).toContain("User=postgres");
  });

  test("lets a server that was restored live on when the agent is restarted, crashes or is out of memory", async () => {
    const text = await readFile(join(tree, "usr/lib/systemd/system/coppice-agent.service"), "utf8");
    expect(text.match(/^(KillMode|OOMPolicy|SendSIGKILL)=.*$/gm)).toEqual(["KillMode=process", "OOMPolicy=continue"]);
  });
});

describe("the package, installed", () => {
  async function repack(newer: string): Promise<string> {
    const place = join(folder, "repacked");
    const made = join(folder, `coppice_${newer}.deb`);
    await run("dpkg-deb", "-R", deb, place);
    const control = await readFile(join(place, "DEBIAN/control"), "utf8");
    await writeFile(join(place, "DEBIAN/control"), control.replace(/^Version: .*$/m, `Version: ${newer}`));
    await run("dpkg-deb", "--root-owner-group", "-Znone", "--build", place, made);
    await rm(place, { recursive: true });
    return made;
  }

  const dpkg = (...args: string[]) => run("dpkg", "--force-unsafe-io", ...args);

  async function traces(): Promise<string[]> {
    // What others make and remove there meanwhile may be gone before it is looked at.
    const places = ["/etc", "/usr", "/var/lib", "/var/cache"];
    const found = await run("find", ...places, "-ignore_readdir_race", "-xdev", "-iname", "*coppice*");
    const accounts = (await readFile("/etc/passwd", "utf8")) + (await readFile("/etc/group", "utf8"));
    return (
      [...found.split("\n"), ...accounts.split("\n").filter((line) => line.includes("coppice"))]
        .filter(Boolean)
        // Other tests have control planes whose server lies there for a while, and clusters of Debian's; no package
        // makes such folders.
        .filter((trace) => !/^\/var\/lib\/coppice-[0-9a-f]{12}(\/|$)|\/coppice_test_/.test(trace))
        .toSorted()
    );
  }

  /** A user that something runs as stays, and so does its group: the package says so. */
  const isAccount = (trace: string) => trace.startsWith("coppice:");
  const unannounced = (found: readonly string[], purged: string) =>
    found.filter((trace) => !purged.includes("the user coppice was kept") || !isAccount(trace));

  test("goes in, is upgraded, removed and purged, and leaves only what it promises", async ({ skip }) => {
    if (process.getuid?.() !== 0) skip("installing a package takes root");
    const before = await traces();
    const present = before.filter((trace) => /^\/usr\/bin\/coppice|^\/etc\/coppice|^\/var\/lib\/coppice/.test(trace));
    if (present.length > 0) skip(`Coppice is installed on this machine and stays untouched: ${present.join(", ")}`);

    await dpkg("-i", deb);
    try {
      for (const program of programs) expect(await run(program, "--version")).toBe(`${program} ${version}\n`);
      expect(await rights("/etc/coppice")).toBe("root:coppice 750");
      expect(await rights("/etc/coppice/control.yaml")).toBe("root:coppice 640");
      expect(await rights("/var/lib/coppice")).toBe("coppice:coppice 750");
      expect(await rights("/var/lib/coppice-agent")).toBe("postgres:postgres 750");
      // It ends with 1 when a unit is disabled, which is what is wanted here.
      expect(await run("sh", "-c", 'systemctl is-enabled "$@" || true', "sh", ...units)).toBe("disabled\ndisabled\n");
      expect(await run("dpkg", "--verify", "coppice")).toBe("");

      await writeFile("/etc/coppice/agent.yaml", "log_level: debug\n");
      await run("chmod", "0700", "/var/lib/coppice");
      await writeFile("/var/lib/coppice/catalog", "data");
      await dpkg("-i", await repack("99.0.0"));
      expect(await run("dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "coppice")).toBe("99.0.0 installed");
      expect(await readFile("/etc/coppice/agent.yaml", "utf8")).toBe("log_level: debug\n");
      expect(await rights("/var/lib/coppice")).toBe("coppice:coppice 700");
      for (const program of programs) expect(await run(program, "--version")).toBe(`${program} ${version}\n`);

      await dpkg("-r", "coppice");
      expect(await exists("/usr/lib/coppice")).toBe(false);
      expect(await exists("/usr/bin/coppice")).toBe(false);
      expect(await readFile("/etc/coppice/agent.yaml", "utf8")).toBe("log_level: debug\n");

      expect(await dpkg("-P", "coppice")).toContain("/var/lib/coppice holds data and was kept");
      expect(await exists("/etc/coppice")).toBe(false);
      expect(await exists("/var/lib/coppice-agent")).toBe(false);
      expect(await readFile("/var/lib/coppice/catalog", "utf8")).toBe("data");
      expect(await run("id", "-un", "coppice")).toBe("coppice\n");

      await rm("/var/lib/coppice/catalog");
      await dpkg("-i", deb);
      const purged = await dpkg("-P", "coppice");
      expect(unannounced(await traces(), purged), purged).toEqual(before.filter((trace) => !isAccount(trace)));
    } finally {
      if (await exists("/var/lib/dpkg/info/coppice.list")) await dpkg("-P", "coppice");
      await rm("/var/lib/coppice", { recursive: true, force: true });
      await rm("/var/lib/coppice-agent", { recursive: true, force: true });
      await run("userdel", "coppice").catch(() => "");
    }
  });
});
