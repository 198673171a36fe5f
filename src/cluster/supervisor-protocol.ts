/** What a supervised process tells its supervisor over IPC. */
export type ChildMessage = { type: 'ready' } | { type: 'error'; message: string };

/** Lines to run/supervisor.sock. `watch` answers with a SupervisorStatus line now and after every change. */
export type SupervisorRequest = { command: 'watch' } | { command: 'start'; child: string } | { command: 'stop'; child: string };

export interface ChildStatus {
  state: 'starting' | 'ready' | 'ended' | 'stopped';
  restarts: number;
  pid?: number | undefined;
  lastError?: string | undefined;
}

export interface SupervisorStatus {
  pid: number;
  children: Record<string, ChildStatus>;
}
