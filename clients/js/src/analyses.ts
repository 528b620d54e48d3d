// What the events tell of the analyses of interviews, kept so that a view that is opened later knows it too.
import { isolated, type Unsubscribe } from './core.js';
import type { AnalysisCompleted, AnalysisFailed, AnalysisProgress, AnalysisStarted } from './events.js';

/** Beyond these the one that changed longest ago is forgotten, unless somebody looks at it. */
const KEPT_MAX = 200;

export type AnalysisEvent =
  | { readonly kind: 'started'; readonly payload: AnalysisStarted }
  | { readonly kind: 'progress'; readonly payload: AnalysisProgress }
  | { readonly kind: 'completed'; readonly payload: AnalysisCompleted }
  | { readonly kind: 'failed'; readonly payload: AnalysisFailed };

/** What is known of an analysis. */
export interface AnalysisState {
  readonly interviewId: string;
  /** `unknown`: no event has come since this client exists. */
  readonly state: 'unknown' | 'processing' | 'completed' | 'failed';
  /** 0 to 100, while `processing` and where a backend tells. */
  readonly progress?: number;
  /** The last event. */
  readonly last?: AnalysisEvent;
}

/** An interview's analysis. */
export interface Analysis {
  readonly interviewId: string;
  /** A new object whenever it changes, and only then. */
  readonly current: AnalysisState;
  /** Calls `listener` at each event of this analysis, once even where it comes under both of its names. */
  on(listener: (event: AnalysisEvent, state: AnalysisState) => void): Unsubscribe;
}

export class Analyses {
  /** In the order of their last change. */
  readonly #known = new Map<string, Entry>();

  of(interviewId: string): Analysis {
    const known = this.#known.get(interviewId);
    if (known) return known;
    const entry = new Entry(interviewId);
    this.#keep(entry);
    return entry;
  }

  receive(name: string, payload: unknown): void {
    const event = parse(name, payload);
    if (!event) return;
    const id = event.payload.interviewId;
    const entry = this.#known.get(id) ?? new Entry(id);
    this.#keep(entry);
    entry.receive(event);
  }

  #keep(entry: Entry): void {
    this.#known.delete(entry.interviewId);
    this.#known.set(entry.interviewId, entry);
    if (this.#known.size <= KEPT_MAX) return;
    for (const [id, other] of this.#known) {
      if (other !== entry && !other.isWatched) {
        this.#known.delete(id);
        return;
      }
    }
  }
}

class Entry implements Analysis {
  readonly interviewId: string;
  #current: AnalysisState;
  readonly #listeners = new Set<(event: AnalysisEvent, state: AnalysisState) => void>();

  constructor(interviewId: string) {
    this.interviewId = interviewId;
    this.#current = { interviewId, state: 'unknown' };
  }

  get current(): AnalysisState {
    return this.#current;
  }

  get isWatched(): boolean {
    return this.#listeners.size > 0;
  }

  on(listener: (event: AnalysisEvent, state: AnalysisState) => void): Unsubscribe {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  receive(event: AnalysisEvent): void {
    if (isTwin(this.#current.last, event)) return;
    this.#current = next(this.#current, event);
    for (const listener of [...this.#listeners]) isolated(listener, [event, this.#current]);
  }
}

function next({ interviewId }: AnalysisState, event: AnalysisEvent): AnalysisState {
  switch (event.kind) {
    case 'started':
      return { interviewId, state: 'processing', last: event };
    case 'progress':
      return { interviewId, state: 'processing', progress: event.payload.progress, last: event };
    case 'completed':
    case 'failed':
      return { interviewId, state: event.kind, last: event };
  }
}

/** The same message under the analysis' other name. */
function isTwin(last: AnalysisEvent | undefined, event: AnalysisEvent): boolean {
  return last?.kind === event.kind && JSON.stringify(last.payload) === JSON.stringify(event.payload);
}

/** `analysis:<kind>` with an `interviewId`, or `analysis:<kind>:<interviewId>`. */
function parse(name: string, payload: unknown): AnalysisEvent | undefined {
  const [, kind, id] = /^analysis:(started|progress|completed|failed)(?::(.+))?$/s.exec(name) ?? [];
  if (!kind || typeof payload !== 'object' || payload === null) return undefined;
  const interviewId = id ?? (payload as { interviewId?: unknown }).interviewId;
  if (typeof interviewId !== 'string') return undefined;
  return { kind, payload: { ...payload, interviewId } } as AnalysisEvent;
}
