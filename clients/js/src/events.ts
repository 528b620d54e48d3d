// The server's events. Generated from the types that the server serializes; do not edit it:
// UPDATE=1 cargo test --lib events::typescript

export type Connected = { message: string, userId: string, socketId: string, timestamp: string, server: string, 
/**
 * It has come back and got what it missed; absent where it has not.
 */
recovered?: boolean, };

export type Analysis<D> = { interviewId: string, message: string, status: string, timestamp: string, server: string, } & D;

export type Started = Record<symbol, never>;

export type Progress = { progress: number, };

export type Completed = { analysis: Summary, };

export type Summary = { summary: string, analyzedAt: string, 
/**
 * Bytes of the video.
 */
fileSize: number, };

export type Failed = { error: string, retryable: boolean, failedAt: string, };

export type Shutdown = { message: string, reconnectInMs: number, timestamp: string, server: string, };

export type Maintenance = { enabled: boolean, message?: string, until?: string, timestamp: string, server: string, };

export type TestMessage = { message: string, timestamp: string, server: string, };

export type AnalysisStarted = Analysis<Started>;
export type AnalysisProgress = Analysis<Progress>;
export type AnalysisCompleted = Analysis<Completed>;
export type AnalysisFailed = Analysis<Failed>;

/** What each event brings. */
export interface ServerEvents {
  'connected': Connected;
  'analysis:started': AnalysisStarted;
  'analysis:progress': AnalysisProgress;
  'analysis:completed': AnalysisCompleted;
  'analysis:failed': AnalysisFailed;
  'server:shutdown': Shutdown;
  'maintenance:mode': Maintenance;
  'test:message': TestMessage;
  'interview:updated': unknown;
  'interview:deleted': unknown;
  'report:generated': unknown;
  'report:updated': unknown;
}

/** The names that front end and back end share. */
export const EVENTS = {
  ANALYSIS_STARTED: 'analysis:started',
  ANALYSIS_PROGRESS: 'analysis:progress',
  ANALYSIS_COMPLETED: 'analysis:completed',
  ANALYSIS_FAILED: 'analysis:failed',
  INTERVIEW_UPDATED: 'interview:updated',
  INTERVIEW_DELETED: 'interview:deleted',
  REPORT_GENERATED: 'report:generated',
  REPORT_UPDATED: 'report:updated',
  SERVER_SHUTDOWN: 'server:shutdown',
  MAINTENANCE_MODE: 'maintenance:mode',
} as const;

/** Why the server refuses a connection. */
export type ServerRefusal =
  | 'token_missing'
  | 'token_invalid'
  | 'token_expired'
  | 'key_unknown'
  | 'user_missing'
  | 'too_many';
