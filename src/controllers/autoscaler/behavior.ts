import type { HPAScalingRules, HorizontalPodAutoscalerBehavior } from '../../api/generated/types.ts';

/** What the number was thought to have to be, or how it changed, at a time in milliseconds. */
interface Sample {
  at: number;
  count: number;
}

/** What an autoscaler remembers between its reconciliations. */
export interface ScaleMemory {
  recommendations: Sample[];
  ups: Sample[];
  downs: Sample[];
}

export interface Verdict {
  replicas: number;
  /** For the conditions AbleToScale and ScalingLimited. */
  able: { reason: string; message: string };
  limited: { status: 'True' | 'False'; reason: string; message: string };
}

export interface Proposal {
  current: number;
  wanted: number;
  min: number;
  max: number;
  /** Milliseconds since the epoch. */
  now: number;
}

/** Without a behavior of its own: down only after five minutes, up at most to the double, or to four. */
const DOWNSCALE_WINDOW = 300;
const ready = { reason: 'ReadyForNewScale', message: 'recommended size matches current size' };
const within = { reason: 'DesiredWithinRange', message: 'the desired count is within the acceptable range' };
const tooFew = { reason: 'TooFewReplicas', message: 'the desired replica count is less than the minimum replica count' };
const tooMany = { reason: 'TooManyReplicas', message: 'the desired replica count is more than the maximum replica count' };
const tooFast = (up: boolean) => ({
  reason: up ? 'ScaleUpLimit' : 'ScaleDownLimit',
  message: `the desired replica count is ${up ? 'increasing' : 'decreasing'} faster than the maximum scale rate`,
});
const stabilizedDown = {
  reason: 'ScaleDownStabilized',
  message: 'recent recommendations were higher than current one, applying the highest recent recommendation',
};
const stabilizedUp = {
  reason: 'ScaleUpStabilized',
  message: 'recent recommendations were lower than current one, applying the lowest recent recommendation',
};

const defaultUp: Required<Omit<HPAScalingRules, 'tolerance'>> = {
  stabilizationWindowSeconds: 0,
  selectPolicy: 'Max',
  policies: [
    { type: 'Pods', value: 4, periodSeconds: 15 },
    { type: 'Percent', value: 100, periodSeconds: 15 },
  ],
};
const defaultDown: typeof defaultUp = {
  stabilizationWindowSeconds: DOWNSCALE_WINDOW,
  selectPolicy: 'Max',
  policies: [{ type: 'Percent', value: 100, periodSeconds: 15 }],
};

const rulesOf = (own: HPAScalingRules | undefined, defaults: typeof defaultUp): typeof defaultUp => ({
  stabilizationWindowSeconds: own?.stabilizationWindowSeconds ?? defaults.stabilizationWindowSeconds,
  selectPolicy: own?.selectPolicy ?? defaults.selectPolicy,
  policies: own?.policies ?? defaults.policies,
});

/** From what the metrics ask for to what is done: stabilized over time, limited in speed and range. Notes the recommendation. */
export function decide(behavior: HorizontalPodAutoscalerBehavior | undefined, memory: ScaleMemory, p: Proposal): Verdict {
  const verdict = behavior ? byBehavior(behavior, memory, p) : byDefault(memory, p);
  const windows = [DOWNSCALE_WINDOW, behavior?.scaleUp?.stabilizationWindowSeconds ?? 0, behavior?.scaleDown?.stabilizationWindowSeconds ?? 0];
  const since = p.now - Math.max(...windows) * 1000;
  memory.recommendations = [...memory.recommendations.filter((r) => r.at >= since), { at: p.now, count: p.wanted }];
  return verdict;
}

function limited(wanted: number, replicas: number, why: { reason: string; message: string }): Verdict['limited'] {
  return wanted === replicas ? { status: 'False', ...within } : { status: 'True', ...why };
}

function byDefault(memory: ScaleMemory, { current, wanted, min, max, now }: Proposal): Verdict {
  const since = now - DOWNSCALE_WINDOW * 1000;
  const stabilized = Math.max(wanted, ...memory.recommendations.filter((r) => r.at >= since).map((r) => r.count));
  const able = stabilized === wanted ? ready : stabilizedDown;
  const upLimit = Math.max(2 * current, 4);
  if (stabilized < min) return { replicas: min, able, limited: limited(stabilized, min, tooFew) };
  const most = Math.min(max, upLimit);
  const replicas = Math.min(stabilized, most);
  return { replicas, able, limited: limited(stabilized, replicas, max > upLimit ? tooFast(true) : tooMany) };
}

function byBehavior(behavior: HorizontalPodAutoscalerBehavior, memory: ScaleMemory, { current, wanted, min, max, now }: Proposal): Verdict {
  const up = rulesOf(behavior.scaleUp, defaultUp);
  const down = rulesOf(behavior.scaleDown, defaultDown);
  const recent = (seconds: number) => memory.recommendations.filter((r) => r.at > now - seconds * 1000).map((r) => r.count);
  const lowest = Math.min(wanted, ...recent(up.stabilizationWindowSeconds));
  const highest = Math.max(wanted, ...recent(down.stabilizationWindowSeconds));
  const stabilized = Math.min(Math.max(current, lowest), highest);
  const able = stabilized === wanted ? ready : wanted >= current ? stabilizedUp : stabilizedDown;
  if (stabilized > current) {
    const upLimit = Math.max(current, limitOf(up, memory, current, now, 1));
    const most = Math.min(max, upLimit);
    const replicas = Math.min(stabilized, most);
    return { replicas, able, limited: limited(stabilized, replicas, max > upLimit ? tooFast(true) : tooMany) };
  }
  if (stabilized < current) {
    const downLimit = Math.min(current, limitOf(down, memory, current, now, -1));
    const least = Math.max(min, downLimit);
    const replicas = Math.max(stabilized, least);
    return { replicas, able, limited: limited(stabilized, replicas, min < downLimit ? tooFast(false) : tooFew) };
  }
  return { replicas: stabilized, able, limited: { status: 'False', ...within } };
}

/** How far the policies let the number go now, up (1) or down (-1). */
function limitOf(rules: typeof defaultUp, memory: ScaleMemory, current: number, now: number, direction: 1 | -1): number {
  if (rules.selectPolicy === 'Disabled') return current;
  const limits = rules.policies.map(({ type, value, periodSeconds }) => {
    const changed = (samples: Sample[]) => samples.filter((s) => s.at > now - periodSeconds * 1000).reduce((sum, s) => sum + s.count, 0);
    const atStart = current - changed(memory.ups) + changed(memory.downs);
    if (type === 'Pods') return atStart + direction * value;
    const share = atStart * (1 + (direction * value) / 100);
    return direction > 0 ? Math.ceil(share) : Math.trunc(share);
  });
  // Min is the policy of the smallest change.
  const widest = (rules.selectPolicy === 'Min') === direction < 0;
  return widest ? Math.max(...limits) : Math.min(...limits);
}

/** Notes a change that was made, for the policies' periods. */
export function noteChange(behavior: HorizontalPodAutoscalerBehavior | undefined, memory: ScaleMemory, from: number, to: number, now: number): void {
  if (!behavior) return;
  const grown = to > from;
  const rules = grown ? rulesOf(behavior.scaleUp, defaultUp) : rulesOf(behavior.scaleDown, defaultDown);
  const since = now - Math.max(0, ...rules.policies.map((p) => p.periodSeconds)) * 1000;
  const samples = grown ? memory.ups : memory.downs;
  samples.splice(0, samples.length, ...samples.filter((s) => s.at >= since), { at: now, count: Math.abs(to - from) });
}
