import type { Runtime } from '../runtime/cri.ts';

/** What the runtime says of itself, in the words of the Node's Ready condition. */
export class RuntimeHealth {
  private readonly runtime: Runtime;

  constructor(runtime: Runtime) {
    this.runtime = runtime;
  }

  /** Why the node cannot run pods; empty when it can. Never rejects. */
  async problems(): Promise<string[]> {
    try {
      const { conditions } = await this.runtime.status();
      const broken = conditions.filter((c) => !c.status);
      return broken.map(
        (c) =>
          `container runtime ${c.type === 'NetworkReady' ? 'network' : 'status check'} not ready: ${c.type}=false reason:${c.reason} message:${c.message}`,
      );
    } catch (error) {
      return [`container runtime is down: ${error instanceof Error ? error.message : String(error)}`];
    }
  }

  /** Why pods with a network of their own cannot run now. */
  async networkProblem(): Promise<string | undefined> {
    const { conditions } = await this.runtime.status();
    const network = conditions.find((c) => c.type === 'NetworkReady');
    return network && !network.status
      ? `container runtime network not ready: NetworkReady=false reason:${network.reason} message:${network.message}`
      : undefined;
  }
}
