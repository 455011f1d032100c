import { defineConfig } from "vitest/config";

// Two projects: what needs no server runs on every core; what starts servers, agents and control planes runs at most
// two files at once, so that its time-outs hold on a machine with two cores.
const heavy = ["tests/scenarios/**/*.test.ts", "tests/integration/**/*.test.ts"];

export default defineConfig({
  test: {
    environment: "node",
    pool: "forks",
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["proto/kit/**/*.test.ts", "*/src/**/*.test.ts", "deploy/**/*.test.ts", "tests/**/*.test.ts"],
          exclude: ["**/node_modules/**", ...heavy],
          testTimeout: 15_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "system",
          include: heavy,
          testTimeout: 60_000,
          hookTimeout: 120_000,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
