import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, createWriteStream, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '../../src/cluster/preflight.ts';
import { program } from './build.ts';

/** One test of e2e.test. */
export interface Spec {
  name: string;
  sig: string;
  /** It wants the cluster for itself. */
  serial: boolean;
  /** Of the conformance suite. */
  conformance: boolean;
}
/** What came of it; a test whose process ended before it leaves none. */
export interface Outcome {
  name: string;
  state: 'passed' | 'failed' | 'skipped';
  seconds: number;
  message: string;
}

interface SpecReport {
  ContainerHierarchyTexts: string[] | null;
  ContainerHierarchyLabels: (string[] | null)[] | null;
  LeafNodeType: string;
  LeafNodeText: string;
  LeafNodeLabels: string[] | null;
  State: string;
  RunTime: number;
  Failure?: { Message: string };
}
const nameOf = (spec: SpecReport): string => [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' ');
const specsOf = (report: string): SpecReport[] =>
  (JSON.parse(readFileSync(report, 'utf8')) as { SpecReports: SpecReport[] }[])
    .flatMap((suite) => suite.SpecReports)
    .filter((spec) => spec.LeafNodeType === 'It');

/** All tests that e2e.test has, as it says itself. */
export function listSpecs(): Spec[] {
  const folder = mkdtempSync(join(tmpdir(), 'kumulus-conformance-list-'));
  try {
    const kubeconfig = join(folder, 'kubeconfig');
    const named = { name: 'a', cluster: { server: 'https://127.0.0.1:1' }, context: { cluster: 'a', user: 'a' }, user: {} };
    writeFileSync(
      kubeconfig,
      JSON.stringify({ apiVersion: 'v1', kind: 'Config', 'current-context': 'a', clusters: [named], contexts: [named], users: [named] }),
    );
    const report = join(folder, 'report.json');
    const ran = spawnSync(
      program('e2e.test'),
      [`--kubeconfig=${kubeconfig}`, '--provider=skeleton', '--ginkgo.dry-run', `--ginkgo.json-report=${report}`],
      {
        encoding: 'utf8',
        maxBuffer: 1 << 28,
      },
    );
    if (!existsSync(report)) throw new Error(`e2e.test does not list its tests: ${ran.stderr}${ran.stdout}`);
    return specsOf(report).map((spec) => {
      const name = nameOf(spec);
      const labels = new Set([...(spec.LeafNodeLabels ?? []), ...(spec.ContainerHierarchyLabels ?? []).flatMap((own) => own ?? [])]);
      return {
        name,
        sig: /^\[sig-([a-z-]+)\]/.exec(name)?.[1] ?? '',
        serial: labels.has('Serial') || labels.has('Disruptive'),
        conformance: labels.has('Conformance'),
      };
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs tests one after the other in one process of e2e.test; resolves to what came of each that ran to its end. */
export async function runSpecs(specs: Spec[], o: { folder: string; kubeconfig: string; timeout: string; signal: AbortSignal }): Promise<Outcome[]> {
  mkdirSync(o.folder, { recursive: true });
  const report = join(o.folder, 'report.json');
  const log = createWriteStream(join(o.folder, 'log'));
  const literal = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const child = spawn(
    program('e2e.test'),
    [
      `--kubeconfig=${o.kubeconfig}`,
      '--provider=skeleton',
      '--ginkgo.no-color',
      '--ginkgo.v',
      // Ginkgo puts its suite's name before a test's.
      `--ginkgo.focus=(?:${specs.map((spec) => literal(spec.name)).join('|')})$`,
      `--ginkgo.timeout=${o.timeout}`,
      `--ginkgo.json-report=${report}`,
      '--num-nodes=2',
      `--kubectl-path=${findProgram('kubectl') ?? 'kubectl'}`,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  // Ginkgo cleans up and writes its report at the first signal.
  const stop = () => child.kill('SIGINT');
  o.signal.addEventListener('abort', stop, { once: true });
  await new Promise((resolve) => child.once('close', resolve));
  o.signal.removeEventListener('abort', stop);
  log.end();
  if (!existsSync(report)) return [];
  const wanted = new Set(specs.map((spec) => spec.name));
  const ended = specsOf(report).filter(
    (spec) => wanted.has(nameOf(spec)) && !/^(|pending|interrupted|aborted)$/.test(spec.State) && (spec.State !== 'skipped' || spec.Failure),
  );
  rmSync(report);
  return ended.map((spec) => ({
    name: nameOf(spec),
    state: spec.State === 'passed' || spec.State === 'skipped' ? spec.State : 'failed',
    seconds: Math.round(spec.RunTime / 1e8) / 10,
    message: spec.Failure?.Message ?? '',
  }));
}

/** Outcomes on disk, a line each; the last one of a name counts. */
export class Outcomes {
  readonly #file: string;
  readonly #byName = new Map<string, Outcome>();

  constructor(folder: string) {
    this.#file = join(folder, 'outcomes.jsonl');
    if (!existsSync(this.#file)) return;
    for (const line of readFileSync(this.#file, 'utf8').split('\n').filter(Boolean)) {
      const outcome = JSON.parse(line) as Outcome;
      this.#byName.set(outcome.name, outcome);
    }
  }

  get(name: string): Outcome | undefined {
    return this.#byName.get(name);
  }

  add(outcome: Outcome): void {
    this.#byName.set(outcome.name, outcome);
    appendFileSync(this.#file, `${JSON.stringify(outcome)}\n`);
  }

  /** Lines for people: counts by SIG, then the names that did not pass. */
  summary(specs: Spec[]): string[] {
    const count = (of: Spec[], state: Outcome['state']) => of.filter((spec) => this.get(spec.name)?.state === state).length;
    const line = (of: Spec[]) => {
      const [passed, failed] = [count(of, 'passed'), count(of, 'failed')];
      return `${passed} passed, ${failed} failed, ${of.length - passed - failed} not run`;
    };
    const lines = [...new Set(specs.map((spec) => spec.sig))].sort().map((sig) => `sig-${sig}: ${line(specs.filter((spec) => spec.sig === sig))}`);
    for (const { name } of specs) {
      const outcome = this.get(name);
      if (outcome?.state === 'failed') lines.push(`  failed: ${name}`);
      if (outcome?.state === 'skipped') lines.push(`  skipped itself: ${name}: ${outcome.message}`);
    }
    return [...lines, `${line(specs)} of ${specs.length}`];
  }
}
