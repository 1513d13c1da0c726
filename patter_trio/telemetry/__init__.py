"""What a call measures about itself: latencies and costs."""
