import { canonicalJson } from '../../api/equality.ts';


interface Plugin {
  /** Everything of this plugin that ran and wants to run again when others change the object. */
  ran: Set<string>;
  again: Set<string>;
  output: string | undefined;
}

/**
 * Remembers, over one request's two passes through the mutating plugins, what has seen which object. A second pass is made where
 * something changed the object after something else had looked at it.
 */
export class Reinvocation {
  /** This is the second pass. */
  again = false;
  /** A second pass is wanted. */
  wanted = false;
  #plugins = new Map<string, Plugin>();

  #of(plugin: string): Plugin {
    let known = this.#plugins.get(plugin);
    if (!known) this.#plugins.set(plugin, (known = { ran: new Set(), again: new Set(), output: undefined }));
    return known;
  }

  /** A plugin's pass begins: where others changed its last output, all that it ran runs again. */
  begin(plugin: string, object: unknown): void {
    const state = this.#of(plugin);
    if (this.again && state.output !== undefined && state.output !== canonicalJson(object)) for (const id of state.ran) state.again.add(id);
  }

  wants(plugin: string, id: string): boolean {
    return this.#of(plugin).again.has(id);
  }

  invoked(plugin: string, id: string, ifNeeded: boolean, changed: boolean): void {
    const state = this.#of(plugin);
    if (changed) {
      for (const other of state.ran) state.again.add(other);
      this.wanted = true;
    }
    if (ifNeeded) state.ran.add(id);
  }

  end(plugin: string, object: unknown): void {
    this.#of(plugin).output = canonicalJson(object);
  }
}
